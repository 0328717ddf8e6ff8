#include "services/trainer_worker/model_commands.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/base/progress.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog.h"
#include "common/model/network.h"

namespace doppel {

std::string FormatTable(const IdentificationReport& report) {
  std::string text = absl::StrFormat(
      "protocol   open gallery identification\nmodel step %d\nqueries    %s\ngallery    %s identities\n",
      report.model_step, FormatCount(report.queries), FormatCount(report.gallery));
  for (const auto& [k, share] : report.recall) {
    absl::StrAppendFormat(&text, "%-24s %.4f\n", k == 1 ? "rank-1 = Recall@1" : absl::StrCat("Recall@", k),
                          share);
  }
  for (const auto& [far, tar] : report.tar) absl::StrAppendFormat(&text, "TAR@FAR=%-16.0e %.4f\n", far, tar);
  absl::StrAppendFormat(&text, "negative pairs %s", FormatCount(report.negative_pairs));
  if (!report.refused_far_targets.empty()) {
    absl::StrAppendFormat(&text, "; too few for FAR %s",
                          absl::StrJoin(report.refused_far_targets, ", ", [](std::string* out, double far) {
                            absl::StrAppendFormat(out, "%.0e", far);
                          }));
  }
  absl::StrAppendFormat(&text, "\ntook %.1f s\n", report.seconds);
  return text;
}

absl::StatusOr<std::string> RunEval(const EvalCommandOptions& options) {
  if (options.output != "table" && options.output != "json") {
    return absl::InvalidArgumentError(
        absl::StrCat("--output is \"", options.output, "\": choose table or json"));
  }
  ASSIGN_OR_RETURN(const std::shared_ptr<const Catalog> catalog, Catalog::Open(options.catalog));
  ASSIGN_OR_RETURN(std::unique_ptr<EmbeddingModel> model, LoadEmbeddingModel(options.model, options.device));
  ASSIGN_OR_RETURN(const IdentificationReport report,
                   EvaluateIdentification(*catalog, *model, options.identification));
  return options.output == "json" ? absl::StrCat(ToJson(report), "\n") : FormatTable(report);
}

absl::StatusOr<ModelSpec> RunInit(const ModelSpec& spec, uint64_t seed, const std::string& directory) {
  ASSIGN_OR_RETURN(std::unique_ptr<Network> network, CreateNetwork(spec, seed));
  return SaveNetwork(*network, 0, directory);
}

absl::StatusOr<ModelSpec> RunImportTorchScript(const std::string& file, const ModelSpec& spec,
                                               const std::string& directory) {
  return ImportTorchScript(file, spec, directory);
}

}  // namespace doppel
