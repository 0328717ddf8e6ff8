#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/io/file_system.h"
#include "common/io/mirrored_log.h"
#include "doppel/v1/storage.pb.h"
#include "miner/generation/miner_state.h"

namespace doppel {

// The durable log of the miner's facts: MinerUpdate messages, kept twice (common/io/mirrored_log.h). Not
// thread-safe.
class Journal {
 public:
  // Opens or creates it, cuts a torn tail off, mends damage of one of its files, and replays it into `state`
  // (which must be fresh). DATA_LOSS names the files if both are damaged, or contradict themselves.
  static absl::StatusOr<std::unique_ptr<Journal>> Open(FileSystem& fs, const std::string& path,
                                                       MinerState& state);

  // Replays records into `state`. DATA_LOSS names `path` and the first record that does not fit.
  static absl::Status Replay(const std::string& path, const std::vector<std::string>& records,
                             MinerState& state);

  // Durable when it returns OK, all of them with one sync of each file; a crash may leave the first few.
  // After an error every call fails: whether the facts reached the disk is known only after opening again.
  absl::Status Append(absl::Span<const v1::MinerUpdate> updates);

 private:
  Journal(std::string path, std::unique_ptr<MirroredLog> log)
      : path_(std::move(path)), log_(std::move(log)) {}

  std::string path_;
  std::unique_ptr<MirroredLog> log_;
  absl::Status broken_;
};

}  // namespace doppel
