#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/model/embedding_model.h"

namespace doppel {

// Writes the model of a model directory as one TorchScript file that needs no code of ours:
//   forward(images)  float32 [n, channels, height, width], normalised as model.json says → float32 [n, D]
//   embed(pixels)    uint8 [n, height, width, channels] → float32 [n, D]: with that normalisation
// for any n, in eval mode, L2-normalised if the model is; parameters keep their names. The file is loaded
// again and compared with the model on batches of several sizes before it is put in place:
// FAILED_PRECONDITION if they differ by more than 1e-5.
absl::StatusOr<ModelSpec> ExportTorchScript(const std::string& directory, const std::string& output);

}  // namespace doppel
