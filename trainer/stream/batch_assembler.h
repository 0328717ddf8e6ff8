#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "trainer/stream/received_batch.h"

namespace doppel {

// Joins the parts of batches as they come from one stream, and holds the server to its order. Not
// thread-safe.
class BatchAssembler {
 public:
  // Cursors `cursor`, `cursor` + `stride`, … stride 0: whatever the server chooses.
  explicit BatchAssembler(uint64_t cursor, uint64_t stride = 1) : next_cursor_(cursor), stride_(stride) {}

  // A whole batch (as one part of one) when this part was its last, nullopt before. INTERNAL: a part that
  // does not follow from the ones before, or a batch that is not P * K samples; what came instead of what is
  // in the message.
  absl::StatusOr<std::optional<ReceivedBatch>> Add(ReceivedBatch part);

  uint64_t next_cursor() const { return next_cursor_; }

 private:
  uint64_t next_cursor_;
  const uint64_t stride_;
  std::optional<ReceivedBatch> joined_;  // the parts so far
};

}  // namespace doppel
