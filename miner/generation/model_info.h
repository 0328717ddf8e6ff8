#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "common/io/file_system.h"

namespace doppel {

// What the miner needs to know of a model directory. It never loads the weights: embedders do.
struct ModelInfo {
  std::string fingerprint;  // of the weights, 32 hex digits
  uint64_t step = 0;
  int dimension = 0;
};

// Reads `directory`/model.json. INVALID_ARGUMENT names the path: missing, not JSON, or without the fields.
absl::StatusOr<ModelInfo> ReadModelInfo(FileSystem& fs, const std::string& directory);

}  // namespace doppel
