#include "services/trainer_worker/export_command.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "services/trainer_worker/torchscript_export.h"

namespace doppel {

absl::StatusOr<std::string> RunExport(const ExportCommandOptions& options) {
  if (options.format != "table" && options.format != "json") {
    return absl::InvalidArgumentError(absl::StrCat("-o is \"", options.format, "\": choose table or json"));
  }
  ASSIGN_OR_RETURN(const ModelSpec spec, ExportTorchScript(options.model, options.output));
  if (options.format == "table") {
    return absl::StrCat(options.output, ": TorchScript of ", spec.architecture, ", step ", spec.step,
                        "; forward(float32 [n, ", spec.channels, ", ", spec.height, ", ", spec.width,
                        "]) and embed(uint8 [n, ", spec.height, ", ", spec.width, ", ", spec.channels,
                        "]) give [n, ", spec.dimension, "]\n");
  }
  const nlohmann::ordered_json json = {{"output", options.output},
                                       {"architecture", spec.architecture},
                                       {"step", spec.step},
                                       {"height", spec.height},
                                       {"width", spec.width},
                                       {"channels", spec.channels},
                                       {"dimension", spec.dimension},
                                       {"normalize", spec.normalize},
                                       {"fingerprint", spec.fingerprint}};
  return json.dump() + "\n";
}

}  // namespace doppel
