#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/io/file_system.h"
#include "trainer/loss/loss.h"

namespace doppel {

// Named tensors as a pickled dict, which Python's torch.load reads. Exact. Synced.
absl::Status WriteTensors(FileSystem& fs, const std::string& path, const NamedTensors& tensors);
// DATA_LOSS if the file is not one of those.
absl::StatusOr<NamedTensors> ReadTensors(FileSystem& fs, const std::string& path);

}  // namespace doppel
