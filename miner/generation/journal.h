#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/io/file_system.h"
#include "common/io/record_file.h"
#include "doppel/v1/storage.pb.h"
#include "miner/generation/miner_state.h"

namespace doppel {

// The durable log of the miner's facts: a record file of MinerUpdate messages. Not thread-safe.
class Journal {
 public:
  // Opens or creates it, cuts a torn tail off, and replays it into `state` (which must be fresh). DATA_LOSS
  // names the file if it is damaged before its tail or contradicts itself.
  static absl::StatusOr<std::unique_ptr<Journal>> Open(FileSystem& fs, const std::string& path,
                                                       MinerState& state);

  // Durable when it returns OK, all of them with one sync; a crash may leave the first few. After an error
  // every call fails: whether the facts reached the disk is known only after opening again.
  absl::Status Append(absl::Span<const v1::MinerUpdate> updates);

 private:
  Journal(std::string path, std::unique_ptr<RecordWriter> writer)
      : path_(std::move(path)), writer_(std::move(writer)) {}

  std::string path_;
  std::unique_ptr<RecordWriter> writer_;
  absl::Status broken_;
};

}  // namespace doppel
