#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/v1/batches.pb.h"

namespace doppel {

// Joins the parts of batches as they come from one stream, and holds the server to its order. Not
// thread-safe.
class BatchAssembler {
 public:
  // The cursor of the first batch to come.
  explicit BatchAssembler(uint64_t cursor) : next_cursor_(cursor) {}

  // A whole batch (as one part of one) when this part was its last, nullopt before. INTERNAL: a part that
  // does not follow from the ones before, or a batch that is not P * K samples; what came instead of what is
  // in the message.
  absl::StatusOr<std::optional<v1::Batch>> Add(v1::Batch part);

  uint64_t next_cursor() const { return next_cursor_; }

 private:
  uint64_t next_cursor_;
  std::optional<v1::Batch> joined_;  // the parts so far
};

// CRC32C of every ENCODED sample. DATA_LOSS names the first that differs; OK for other payloads.
absl::Status VerifyChecksums(const v1::Batch& batch);

}  // namespace doppel
