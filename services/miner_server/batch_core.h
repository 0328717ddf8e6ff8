#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "doppel/v1/batches.pb.h"
#include "miner/miner.h"
#include "miner/planning/plan.h"
#include "miner/planning/steering.h"
#include "services/miner_server/batch_builder.h"

namespace doppel {

struct BatchLimits {
  uint32_t max_credits = 64;
  uint32_t max_batch_samples = 16384;  // P * K
  uint64_t part_bytes = uint64_t{2} << 20;
  uint64_t borrow_bytes = 4096;
  int decode_threads = 1;
  // Whether files that are not in memory are read ahead, in the order of their offsets.
  bool read_ahead = true;
  uint64_t max_batch_bytes = uint64_t{1} << 30;  // DECODED: of pixels
};

// A validated request bound to one generation. Immutable: a stream takes a new one when it moves on.
struct BoundStream {
  v1::StreamSpec spec;                           // with the image's shape filled in
  std::shared_ptr<const Generation> generation;  // null: none yet
  std::shared_ptr<const Plan> plan;
  // Set: the plan follows reports, and this is what it was when the stream was bound.
  std::shared_ptr<SteeredPlan> steered;
  std::shared_ptr<const Catalog> drawn_from;  // the version that the generation is of
  // The newest version when it was bound.
  std::shared_ptr<const Catalog> catalog;
  BatchBuilder* builder = nullptr;  // of `catalog`; the core's
  uint64_t expected_bytes = 0;      // of a batch; for DECODED no less than it has

  uint64_t generation_number() const { return generation == nullptr ? 0 : generation->number(); }
};

// What streams and unary calls share: from a request to the bytes of a batch. Thread-safe. Both Bind and
// Build may take long (they touch disks): never on a thread of gRPC's.
class BatchCore {
 public:
  // `steering` is not owned; null: no plan follows reports.
  BatchCore(std::shared_ptr<Miner> miner, BatchLimits limits, SteeredPlans* steering = nullptr);

  // INVALID_ARGUMENT names the field; FAILED_PRECONDITION: the plan needs a generation and there is none;
  // NOT_FOUND: no generation of that number.
  absl::StatusOr<std::shared_ptr<const BoundStream>> Bind(const v1::StreamSpec& spec);

  // False if the stream follows the active generation and that is another one by now. Cheap.
  bool IsCurrent(const BoundStream& stream) const;

  // On the calling thread alone, unless it is for GetBatch.
  absl::StatusOr<WireBatch> Build(const BoundStream& stream, uint64_t cursor, BatchEnvelope envelope);

  const BatchLimits& limits() const { return limits_; }

 private:
  // A version of the catalog that streams are bound to: samples keep their numbers, so the newest serves the
  // plans of all. Few, and kept: what was sent may point into their tables.
  struct Version {
    explicit Version(const std::shared_ptr<const Catalog>& of)
        : catalog(of), sample_bytes(MeanSampleBytes(*of)), builder(of) {}
    const std::shared_ptr<const Catalog> catalog;
    const uint64_t sample_bytes;  // on average
    BatchBuilder builder;
  };
  static uint64_t MeanSampleBytes(const Catalog& catalog);
  Version& Newest() ABSL_LOCKS_EXCLUDED(mutex_);

  void ReadAhead(const BoundStream& stream, const PlannedBatch& planned);

  struct CachedPlan {
    std::string key;
    std::shared_ptr<const Plan> plan;
  };

  absl::Status Validate(const v1::StreamSpec& spec) const;
  absl::StatusOr<v1::ImageShape> CompleteShape(const v1::StreamSpec& spec);
  absl::StatusOr<v1::ImageShape> FirstImageShape();
  // Draws, and keeps what that was by alive.
  absl::StatusOr<PlannedBatch> Draw(const BoundStream& stream, uint64_t cursor);
  absl::StatusOr<std::shared_ptr<const Plan>> PlanFor(const v1::StreamSpec& spec,
                                                      const std::shared_ptr<const Catalog>& drawn_from,
                                                      const std::shared_ptr<const Generation>& generation);

  const std::shared_ptr<Miner> miner_;
  const BatchLimits limits_;
  SteeredPlans* const steering_;
  std::atomic<int64_t> cold_until_{0};  // Unix nanoseconds: files were not in memory a moment ago

  absl::Mutex mutex_;
  std::deque<Version> versions_ ABSL_GUARDED_BY(mutex_);  // newest last
  // Most recent first: unary calls would make a plan for every batch.
  std::deque<CachedPlan> plans_ ABSL_GUARDED_BY(mutex_);
  std::optional<v1::ImageShape> first_image_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace doppel
