#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/model/embedding_model.h"
#include "trainer/eval/identification.h"

namespace doppel {

struct EvalCommandOptions {
  std::string model;
  std::string catalog;
  std::string device = "auto";
  std::string output = "table";  // table | json
  IdentificationOptions identification;
};
// `doppel-trainer eval`: the text to print.
absl::StatusOr<std::string> RunEval(const EvalCommandOptions& options);

// `doppel-trainer init`: a model directory with fresh weights.
absl::StatusOr<ModelSpec> RunInit(const ModelSpec& spec, uint64_t seed, const std::string& directory);

// `doppel-trainer import-torchscript`: a model directory of a TorchScript file.
absl::StatusOr<ModelSpec> RunImportTorchScript(const std::string& file, const ModelSpec& spec,
                                               const std::string& directory);

std::string FormatTable(const IdentificationReport& report);

}  // namespace doppel
