#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/catalog/catalog.h"
#include "common/model/embedding_model.h"

namespace doppel {

// What to embed: identities [first_identity, first_identity + identity_count) of a catalog, or those listed.
struct EmbedRangeSpec {
  uint64_t first_identity = 0;
  uint64_t identity_count = 0;
  // 0, or at least the identity's number of samples: all, in the catalog's order. Otherwise the samples at
  // positions KeyedPermutation(n, MixKey(seed, identity))[0 .. S).
  uint32_t samples_per_identity = 0;
  uint64_t seed = 0;
  // [identity_count] or empty.
  std::vector<uint64_t> identities = {};

  uint64_t Identity(uint64_t row) const {
    return identities.empty() ? first_identity + row : identities[row];
  }
};

struct Representations {
  int dimension = 0;
  // [identity_count, dimension]: mean of the L2-normalised embeddings, not normalised again. Zeros for an
  // identity without a usable sample.
  std::vector<float> values;
  // Samples that went into each mean.
  std::vector<uint32_t> samples;
  // Samples left out: not readable, not decodable, or without a finite embedding; the first 100 by name.
  uint64_t failed_samples = 0;
  std::vector<std::string> failures;
};

// A range on its way through a pool. Thread-safe.
class EmbedJob {
 public:
  virtual ~EmbedJob() = default;
  virtual bool Done() const = 0;
  // Blocks until done. To be called once.
  virtual absl::StatusOr<Representations> Take() = 0;
  // Batches that were not begun are dropped; the job ends with CANCELLED.
  virtual void Cancel() = 0;
};

// One thread per model; each decodes and embeds whole batches by itself, one operator thread each: on few
// cores that is faster than to share a batch. Batches of `batch_size` samples are cut across identities, in
// the range's order, so the result does not depend, to the bit, on the number of threads. With two jobs
// submitted no thread idles between them. Thread-safe.
class EmbedPool {
 public:
  EmbedPool(std::vector<std::unique_ptr<EmbeddingModel>> models, int batch_size);
  // Cancels what is left, and joins.
  ~EmbedPool();
  EmbedPool(const EmbedPool&) = delete;
  EmbedPool& operator=(const EmbedPool&) = delete;

  // OUT_OF_RANGE if the catalog has no such identities. `on_done` is called once, on any thread, after the
  // job is done.
  absl::StatusOr<std::shared_ptr<EmbedJob>> Submit(std::shared_ptr<const Catalog> catalog,
                                                   const EmbedRangeSpec& range,
                                                   std::function<void()> on_done = nullptr);

 private:
  class Job;
  struct Work {
    std::shared_ptr<Job> job;
    uint64_t batch = 0;
  };

  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return closing_ || !queue_.empty(); }
  // False when the pool closes.
  bool NextWork(Work* work);
  void Run(EmbeddingModel& model);

  const int batch_size_;
  const ModelSpec spec_;
  const std::vector<std::unique_ptr<EmbeddingModel>> models_;
  std::vector<std::thread> threads_;

  absl::Mutex mutex_;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<std::shared_ptr<Job>> queue_ ABSL_GUARDED_BY(mutex_);  // those with batches not begun
};

// One range, start to end, with one thread per model.
absl::StatusOr<Representations> EmbedRange(std::shared_ptr<const Catalog> catalog,
                                           std::vector<std::unique_ptr<EmbeddingModel>> models,
                                           const EmbedRangeSpec& range, int batch_size);

}  // namespace doppel
