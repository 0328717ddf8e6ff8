#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
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
  // Where there is no mapped file.
  struct Unmapped {
    std::string path;                   // REFERENCE
    std::shared_ptr<const void> owner;  // of `bytes`
  };
  uint64_t number = 0;
  SampleRecord record;
  absl::string_view bytes;                   // ENCODED and DECODED: of its file
  const ShardTable::Shard* shard = nullptr;  // that `bytes` points into; null: see `unmapped`
  const Unmapped* unmapped = nullptr;
  uint32_t message_bytes = 0;    // of its v1.Sample, what is borrowed included
  uint32_t reference_bytes = 0;  // REFERENCE: of its v1.SampleReference
};

// The samples of one batch, and the room for them: it is used again, for page faults of fresh memory would
// cost as much as the look-ups.
class WireSamples {
 public:
  // Looks them up in the catalog. No memory is allocated per sample and no lock taken if they lie in mapped
  // files. Errors name the sample. What was found before is gone.
  absl::Status Find(ShardTable& shards, v1::PayloadKind payload, absl::Span<const uint64_t> samples);

  // Their records alone; valid until the next call.
  absl::Span<const SampleRecord> Records(const Catalog& catalog, absl::Span<const uint64_t> samples);

  absl::Span<const WireSample> found() const { return absl::MakeConstSpan(samples_.data(), count_); }
  void Clear();

 private:
  absl::Status FindUnmapped(const Catalog& catalog, v1::PayloadKind payload, WireSample& sample);

  size_t count_ = 0;
  std::vector<WireSample> samples_;    // never shrinks
  std::vector<SampleRecord> records_;  // likewise
  std::deque<WireSample::Unmapped> unmapped_;
};

// Thread-safe.
class WireSampleScratch {
 public:
  // Gives the room back when it goes.
  class Lease {
   public:
    explicit Lease(WireSampleScratch* scratch) : scratch_(scratch), samples_(scratch->Take()) {}
    ~Lease() { scratch_->Return(std::move(samples_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    WireSamples& operator*() { return *samples_; }

   private:
    WireSampleScratch* const scratch_;
    std::unique_ptr<WireSamples> samples_;
  };

 private:
  std::unique_ptr<WireSamples> Take();
  void Return(std::unique_ptr<WireSamples> samples);

  absl::Mutex mutex_;
  std::vector<std::unique_ptr<WireSamples>> idle_ ABSL_GUARDED_BY(mutex_);
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

// Bytes that AppendSample takes, what is borrowed included.
inline uint64_t SampleFieldBytes(const WireSample& sample) {
  return 1 + VarintSize(sample.message_bytes) + sample.message_bytes;
}

// Of them, bytes that are borrowed.
inline uint64_t SampleBorrowedBytes(const WireSample& sample, v1::PayloadKind payload,
                                    uint64_t borrow_bytes) {
  const bool borrows = payload == v1::PAYLOAD_KIND_ENCODED && sample.bytes.size() >= borrow_bytes;
  return borrows ? sample.bytes.size() : 0;
}

}  // namespace doppel
