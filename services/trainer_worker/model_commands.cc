#include "services/trainer_worker/model_commands.h"

#include <memory>

#include "common/base/status_macros.h"
#include "common/model/network.h"

namespace doppel {

absl::StatusOr<ModelSpec> RunInit(const ModelSpec& spec, uint64_t seed, const std::string& directory) {
  ASSIGN_OR_RETURN(std::unique_ptr<Network> network, CreateNetwork(spec, seed));
  return SaveNetwork(*network, 0, directory);
}

absl::StatusOr<ModelSpec> RunImportTorchScript(const std::string& file, const ModelSpec& spec,
                                               const std::string& directory) {
  return ImportTorchScript(file, spec, directory);
}

}  // namespace doppel
