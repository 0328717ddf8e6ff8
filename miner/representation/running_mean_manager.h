#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/base/clock.h"
#include "common/base/identity_rows.h"
#include "common/io/file_system.h"
#include "doppel/v1/reports.pb.h"
#include "miner/representation/representation_store.h"
#include "miner/representation/running_mean.h"
#include "miner/representation/running_mean_store.h"
#include "miner/representation/subspace_hardness.h"

namespace doppel {

// The live representations: running means of what one training run reports, snapshots of them on disk, and
// how hard its trainers find each subspace. Thread-safe.
//
// Means of two models must not meet, so they belong to one run at a time. Another run takes over, and begins
// from nothing, when the owner has been silent for `owner_patience`; until then its reports are turned away.
class RunningMeanManager {
 public:
  struct Options {
    FileSystem* fs = nullptr;      // not owned
    const Clock* clock = nullptr;  // not owned
    std::string directory;
    std::string catalog_fingerprint;
    uint64_t identities = 0;  // of the catalog
    // Of versions that it was appended to: their snapshots are taken up as well.
    std::vector<std::string> earlier_fingerprints;
    double half_life = 1000;  // steps; ≤ 0: nothing is forgotten
    // Between snapshots, in a thread of its own; ≤ 0: no thread, Snapshot is called by hand.
    absl::Duration snapshot_interval = absl::Seconds(60);
    absl::Duration owner_patience = absl::Seconds(60);
  };
  // Takes up the newest good snapshot of this catalog, if there is one.
  static absl::StatusOr<std::unique_ptr<RunningMeanManager>> Open(Options options);
  // With a last snapshot, if there is a thread for them.
  ~RunningMeanManager();

  // The catalog has a new version, whose identities begin with those there were: what was reported stays.
  // RESOURCE_EXHAUSTED: there is no memory for them, and everything stays as it is.
  absl::Status ExtendTo(const std::string& catalog_fingerprint, uint64_t identities)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // INVALID_ARGUMENT: a size, number or value is wrong; nothing of the request was taken.
  absl::StatusOr<v1::ReportStepsResponse> Report(const v1::ReportStepsRequest& request)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Over the identities of `range`. Leaves names and split empty.
  v1::DescribeRepresentationsResponse Describe(const IdentityRows& range,
                                               absl::Span<const uint64_t> identities) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  v1::ListSubspaceHardnessResponse Hardness(uint64_t generation) const ABSL_LOCKS_EXCLUDED(mutex_);

  // What the owner's trainers reported lately.
  struct Training {
    // Of the newest weights; nullopt: nobody has reported for `owner_patience`.
    std::optional<uint64_t> model_step;
    // Mean over the batches of the newest generation, exponentially weighted (the last hundred make up two
    // thirds); nullopt as long as there are fewer than `kFewestBatches`.
    std::optional<double> active_share;
    uint64_t generation = 0;  // that one
    uint64_t reports = 0;     // rises with every report
  };
  static constexpr uint64_t kFewestBatches = 20;
  Training DescribeTraining() const ABSL_LOCKS_EXCLUDED(mutex_);

  // The live representations of those of `identities` that were seen, normalised; `seen` gets their numbers.
  Matrix Find(absl::Span<const uint64_t> identities, std::vector<uint64_t>* seen) const
      ABSL_LOCKS_EXCLUDED(mutex_);

  struct Frozen {
    FrozenRepresentations representations;
    std::string run;
    uint64_t model_step = 0;
    uint64_t seen = 0;
  };
  // An identity's row elsewhere: empty if there is none. Called without locks.
  using Fallback = std::function<absl::Span<const float>(uint64_t identity)>;
  // A copy of the means of `range`, normalised. Identities that were never seen get `fallback`'s row if it is
  // of the same dimension, else zeros. Each row is as it was at some moment of the call. FAILED_PRECONDITION
  // if less than `min_coverage` of them were seen, or none.
  absl::StatusOr<Frozen> Freeze(const IdentityRows& range, double min_coverage,
                                const Fallback& fallback) const ABSL_LOCKS_EXCLUDED(mutex_);
  // FAILED_PRECONDITION as Freeze would.
  absl::Status CheckCoverage(const IdentityRows& range, double min_coverage) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  struct Stale {
    std::string run;  // empty: nobody has reported
    int dimension = 0;
    std::vector<uint64_t> identities;  // ascending
  };
  // Those of `range` that were not reported within the last `max_age` steps.
  Stale FindStale(const IdentityRows& range, uint64_t max_age) const ABSL_LOCKS_EXCLUDED(mutex_);

  // Writes one if anything has changed since the last.
  absl::Status Snapshot() ABSL_LOCKS_EXCLUDED(mutex_, snapshot_mutex_);

 private:
  explicit RunningMeanManager(Options options)
      : options_(std::move(options)),
        identities_(options_.identities),
        catalog_fingerprint_(options_.catalog_fingerprint),
        store_(*options_.fs, options_.directory) {}
  absl::Status Load() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Check(const v1::StepReport& step) const;
  // False: another run owns the means.
  absl::StatusOr<bool> TakeOver(const v1::ReportStepsRequest& request, v1::ReportStepsResponse* response)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Apply(const v1::StepReport& step) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CountActive(const v1::StepReport& step) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Covered(uint64_t seen, uint64_t of, double min_coverage) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint64_t CountSeen(const IdentityRows& range) const ABSL_LOCKS_EXCLUDED(mutex_);
  // ABORTED if another run took over since `epoch`.
  absl::StatusOr<v1::RunningMeanRows> CopyRows(uint64_t epoch, uint64_t first, uint64_t end) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  void RunSnapshots();

  const Options options_;
  // Of the catalog. Grows under mutex_, and not before means_.
  std::atomic<uint64_t> identities_;

  mutable absl::Mutex mutex_;
  std::string catalog_fingerprint_ ABSL_GUARDED_BY(mutex_);
  // Null before the first report. Replaced when another run takes over.
  std::unique_ptr<RunningMean> means_ ABSL_GUARDED_BY(mutex_);
  uint64_t epoch_ ABSL_GUARDED_BY(mutex_) = 0;    // counts the takings over
  uint64_t changes_ ABSL_GUARDED_BY(mutex_) = 0;  // counts the reports, of all runs
  SubspaceHardnessTable hardness_ ABSL_GUARDED_BY(mutex_);
  // Of the newest generation that was reported.
  uint64_t active_generation_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t active_batches_ ABSL_GUARDED_BY(mutex_) = 0;
  double active_share_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string run_ ABSL_GUARDED_BY(mutex_);
  uint64_t model_step_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t reports_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t refused_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t dropped_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time last_report_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  absl::Time last_snapshot_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  // One snapshot at a time.
  absl::Mutex snapshot_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);
  RunningMeanStore store_ ABSL_GUARDED_BY(snapshot_mutex_);
  uint64_t saved_changes_ ABSL_GUARDED_BY(snapshot_mutex_) = 0;

  std::thread thread_;
};

}  // namespace doppel
