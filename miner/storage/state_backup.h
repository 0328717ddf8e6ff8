#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/io/file_system.h"
#include "miner/storage/state_check.h"

namespace doppel {

struct BackupOptions {
  // Files that never change get a second name instead of a copy, where the file system can: fast and without
  // space, but a damaged disk damages both.
  bool link = true;
  // What embedders have computed for the last passes; without it a job starts over.
  bool representations = true;
};

struct BackupSummary {
  uint64_t files = 0;
  uint64_t bytes = 0;
  uint64_t linked = 0;  // of `files`
  CheckReport check;    // of the result
};

// Writes the state of a miner as it was at one moment, between two facts of its journal, into `to`, which
// must not be there or be empty (ALREADY_EXISTS). A miner may run and serve meanwhile. `to` is whole or not
// there: it is written as `to`.tmp, checked and renamed. DATA_LOSS: what was read is damaged, or what was
// written is; nothing is left behind then.
absl::StatusOr<BackupSummary> BackUpState(FileSystem& fs, const std::string& state, const std::string& to,
                                          const BackupOptions& options);

// The way back: checks the backup, copies it (never links) and checks the copy. ALREADY_EXISTS if `state`
// holds anything at all; DATA_LOSS if the backup is damaged.
absl::StatusOr<BackupSummary> RestoreState(FileSystem& fs, const std::string& backup,
                                           const std::string& state);

}  // namespace doppel
