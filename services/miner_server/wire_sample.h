#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "common/catalog/catalog.h"
#include "doppel/v1/batches.pb.h"
#include "services/miner_server/shard_table.h"
#include "services/miner_server/wire_message.h"

namespace doppel {

// One sample of a batch: what goes into its message v1.Sample, found but not yet written.
struct WireSample {
  uint64_t number = 0;
  SampleRecord record;
  absl::string_view bytes;                   // ENCODED and DECODED: of its file
  absl::string_view path;                    // REFERENCE
  const ShardTable::Shard* shard = nullptr;  // that `bytes` and `path` point into; null: `owner` holds them
  std::shared_ptr<const void> owner;
  uint32_t message_bytes = 0;    // of its v1.Sample, what is borrowed included
  uint32_t reference_bytes = 0;  // REFERENCE: of its v1.SampleReference
};

// Looks the samples up in the catalog. No memory is allocated per sample and no lock taken if they lie in
// mapped files. Errors name the sample. `found` is overwritten.
absl::Status FindSamples(ShardTable& shards, v1::PayloadKind payload, absl::Span<const uint64_t> samples,
                         std::vector<WireSample>* found);

// Room for the samples of batches, used again: page faults of fresh memory would cost as much as the
// look-ups. Thread-safe.
class WireSampleScratch {
 public:
  // Gives the room back when it goes.
  class Lease {
   public:
    explicit Lease(WireSampleScratch* scratch) : scratch_(scratch), samples_(scratch->Take()) {}
    ~Lease() { scratch_->Return(std::move(samples_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    std::vector<WireSample>& operator*() { return samples_; }

   private:
    WireSampleScratch* const scratch_;
    std::vector<WireSample> samples_;
  };

 private:
  std::vector<WireSample> Take();
  void Return(std::vector<WireSample> samples);

  absl::Mutex mutex_;
  std::vector<std::vector<WireSample>> idle_ ABSL_GUARDED_BY(mutex_);
};

// Appends field Batch.samples: tag, length and message, in protobuf's own serialisation. `encoded` bytes are
// borrowed if there are at least `borrow_bytes`. Returns where DECODED's pixels_crc32c goes: null otherwise.
char* AppendSample(const WireSample& sample, v1::PayloadKind payload, uint64_t borrow_bytes,
                   WireMessage& message);

// Appends bytes of the sample, by copy or as a slice.
void AppendBytes(const WireSample& sample, absl::string_view bytes, uint64_t borrow_bytes,
                 WireMessage& message);

// With the name of the sample in front.
absl::Status SampleError(const Catalog& catalog, uint64_t sample, const absl::Status& cause);

// Bytes that AppendSample takes, all in all and without what is borrowed.
uint64_t SampleFieldBytes(const WireSample& sample);
uint64_t SampleCopiedBytes(const WireSample& sample, v1::PayloadKind payload, uint64_t borrow_bytes);

}  // namespace doppel
