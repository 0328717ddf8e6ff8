#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/model/embedding_model.h"

namespace doppel {

// `doppel-trainer init`: a model directory with fresh weights.
absl::StatusOr<ModelSpec> RunInit(const ModelSpec& spec, uint64_t seed, const std::string& directory);

// `doppel-trainer import-torchscript`: a model directory of a TorchScript file.
absl::StatusOr<ModelSpec> RunImportTorchScript(const std::string& file, const ModelSpec& spec,
                                               const std::string& directory);

}  // namespace doppel
