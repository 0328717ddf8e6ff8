#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "trainer/stream/received_batch.h"

namespace doppel {

// A P×K batch ready to become a tensor.
struct TrainingBatch {
  uint64_t generation = 0;
  uint64_t cursor = 0;
  uint64_t epoch = 0;
  int32_t subspace = -1;
  float mean_similarity = 0;
  float max_similarity = 0;
  int identities_per_batch = 0;  // P
  int samples_per_identity = 0;  // K
  int height = 0, width = 0, channels = 0;
  std::vector<int64_t> identities;  // [P * K], the label of each image
  std::vector<uint64_t> samples;    // [P * K]
  std::vector<uint8_t> pixels;      // [P * K, height, width, channels]
};

// Since the start.
struct BatchSourceStatistics {
  uint64_t batches = 0;
  uint64_t damaged_samples = 0;  // whose bytes did not match their CRC32C
  uint64_t batches_fetched_again = 0;
  uint64_t reconnects = 0;
  // Dynamic sharing: acknowledgements that the server has confirmed, and those that came second.
  uint64_t acknowledged = 0, acknowledged_before = 0;
};

// A pull iterator over whole batches as they came from the wire (parts joined). Next blocks, and is called
// from one thread at a time; Acknowledge and Cancel may be called from any.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  // OUT_OF_RANGE: the end (max_batches). CANCELLED after Cancel. Reconnects by itself, at the right cursor.
  virtual absl::StatusOr<ReceivedBatch> Next() = 0;
  // Trained on, for good: every batch that Next has returned, up to and including this one. Never blocks on
  // the network.
  virtual void Acknowledge(uint64_t cursor) = 0;
  virtual void Cancel() = 0;
  virtual BatchSourceStatistics statistics() const { return {}; }
};

// The same with images decoded and augmented. Next from one thread at a time; Acknowledge from any.
class TrainingBatchSource {
 public:
  virtual ~TrainingBatchSource() = default;
  virtual absl::StatusOr<TrainingBatch> Next() = 0;
  virtual void Acknowledge(uint64_t cursor) = 0;
};

}  // namespace doppel
