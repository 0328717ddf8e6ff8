#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/io/file_system.h"

namespace doppel {

// Checkpoints as folders `step-000000000500` below a root, each whole or not there: written under a temporary
// name, every file synced and listed with size and CRC32C in MANIFEST, then renamed. One writer; not
// thread-safe.
class CheckpointStore {
 public:
  // Keeps the newest `keep` (≥ 1) checkpoints. `fs` is not owned.
  CheckpointStore(FileSystem& fs, std::string root, int keep);

  // `write` fills the folder it is given. A valid checkpoint of the same step is left as it is (training is
  // deterministic), a damaged one is replaced. Older checkpoints beyond `keep` are removed afterwards.
  absl::Status Save(uint64_t step, const std::function<absl::Status(const std::string& directory)>& write);

  struct Found {
    uint64_t step = 0;
    std::string directory;
  };
  struct Scan {
    std::optional<Found> newest;
    // "step-000000000500: optimizer.pt has the wrong CRC32C …", newest first; only those newer than `newest`.
    std::vector<std::string> damaged;
  };
  // The newest valid checkpoint: every file is read and checked.
  absl::StatusOr<Scan> FindNewest();
  // Where the checkpoint of a step lies, if there is one.
  std::string PathOf(uint64_t step) const;
  // Removes all checkpoints.
  absl::Status Clear();

 private:
  absl::StatusOr<std::vector<uint64_t>> Steps();  // rising
  absl::Status Prune(uint64_t newest);

  FileSystem& fs_;
  const std::string root_;
  const size_t keep_;
};

}  // namespace doppel
