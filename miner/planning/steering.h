#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "common/catalog/catalog.h"
#include "common/io/file_system.h"
#include "common/io/record_file.h"
#include "doppel/v1/reports.pb.h"
#include "doppel/v1/storage.pb.h"
#include "doppel/v1/types.pb.h"
#include "miner/generation/generation.h"
#include "miner/planning/hardness.h"
#include "miner/planning/plan.h"
#include "miner/representation/subspace_hardness.h"

namespace doppel {

// How often each subspace is to be visited: its size times how hard the trainers find it, which is the mean
// of its active share and its loss, each over that of all who were reported (weighted by size), within [1/4,
// 4]. 1 where nobody reported. `sizes` [M]; `hardness` by ascending subspace. Pure.
std::vector<float> HardnessWeights(absl::Span<const float> sizes,
                                   absl::Span<const v1::SubspaceHardness> hardness);

// What was decided of one steered plan. Changes by Apply only, rebuilt by replaying its journal. Not
// thread-safe.
class SteeringState {
 public:
  // DATA_LOSS: facts that contradict one another.
  absl::Status Apply(const v1::SteeringUpdate& update);

  bool is_open() const { return opened_.has_value(); }
  const v1::SteeringOpened& opened() const { return *opened_; }
  const std::vector<v1::HardnessDecision>& hardness() const { return hardness_; }
  const std::vector<v1::SubspaceStage>& stages() const { return stages_; }
  uint64_t settled_below() const { return settled_below_; }
  // The last one of a generation; null: there is none.
  const v1::SubspaceStage* LastStage(uint64_t generation) const;

 private:
  std::optional<v1::SteeringOpened> opened_;
  std::vector<v1::HardnessDecision> hardness_;
  std::vector<v1::SubspaceStage> stages_;
  uint64_t settled_below_ = 0;
};

// One plan that follows what a training run reports. It stays a function of the cursor: every decision is a
// fact from a cursor on above all that were ever asked for, and is journalled before a batch is drawn by it;
// that cursors may have been asked for is journalled ahead, some at a time. So whoever asks for a cursor
// again gets the batch it got, after a crash too. Thread-safe.
class SteeredPlan {
 public:
  struct Bound {
    v1::PlanSpec spec;  // with the decisions, without `steering`
    std::shared_ptr<const Plan> plan;
    std::shared_ptr<const Catalog> catalog;
  };

  // Opens the journal at `path`, or starts it with `wanted` (whose plan has `steering`). `fs` is not owned.
  static absl::StatusOr<std::shared_ptr<SteeredPlan>> Open(FileSystem& fs, const std::string& path,
                                                           const v1::SteeringOpened& wanted);

  // As it is now; for what it covers, not to draw from. `catalog`: the version to draw from, which is that of
  // the generation.
  absl::StatusOr<std::shared_ptr<const Bound>> Bind(const std::shared_ptr<const Generation>& generation,
                                                    const std::shared_ptr<const Catalog>& catalog)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // To draw the batch at `cursor`: no later decision concerns it. UNAVAILABLE: the journal failed.
  absl::StatusOr<std::shared_ptr<const Bound>> At(uint64_t cursor,
                                                  const std::shared_ptr<const Generation>& generation,
                                                  const std::shared_ptr<const Catalog>& catalog)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Report(const v1::StepReport& step) ABSL_LOCKS_EXCLUDED(mutex_);

  // Whose reports it follows.
  const std::string& run() const { return run_; }
  v1::SteeredPlan Describe() const ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status failure() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  SteeredPlan(std::string run, HardnessController controller)
      : run_(std::move(run)), controller_(std::move(controller)) {}

  absl::Status Record(const v1::SteeringUpdate& update) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::shared_ptr<const Bound>> BindLocked(const std::shared_ptr<const Generation>& generation,
                                                          const std::shared_ptr<const Catalog>& catalog)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  v1::PlanSpec SpecFor(uint64_t generation) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SteerHardness(const v1::StepReport& step) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SteerSubspaces(const v1::StepReport& step) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  const v1::Steering& steering() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return state_.opened().plan().steering();
  }

  const std::string run_;

  mutable absl::Mutex mutex_;
  SteeringState state_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<RecordWriter> journal_ ABSL_GUARDED_BY(mutex_);
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);      // of the journal: nothing is certain any more
  uint64_t asked_below_ ABSL_GUARDED_BY(mutex_) = 0;  // ≤ state_.settled_below(), unless that is 0
  HardnessController controller_ ABSL_GUARDED_BY(mutex_);
  SubspaceHardnessTable hardness_ ABSL_GUARDED_BY(mutex_);
  uint64_t judged_generation_ ABSL_GUARDED_BY(mutex_) = 0;  // the newest that was reported from
  uint64_t since_stage_ ABSL_GUARDED_BY(mutex_) = 0;        // its reports since its last stage was judged
  uint64_t newest_ ABSL_GUARDED_BY(mutex_) = 0;             // cursor reported
  uint64_t reports_ ABSL_GUARDED_BY(mutex_) = 0;
  // Of the generations asked for lately; emptied by a decision.
  std::map<uint64_t, std::shared_ptr<const Bound>> bound_ ABSL_GUARDED_BY(mutex_);
};

// All steered plans of a miner, each with its journal in `directory`. Thread-safe.
class SteeredPlans {
 public:
  // Empty `directory`: nothing is steered. `fs` is not owned.
  SteeredPlans(FileSystem& fs, std::string directory);

  // The one of this spec (which has `steering`) and seed. INVALID_ARGUMENT names the field;
  // RESOURCE_EXHAUSTED: too many. Touches disks.
  absl::StatusOr<std::shared_ptr<SteeredPlan>> Join(const v1::PlanSpec& spec, uint64_t seed)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // To all that follow this run, among those joined since the start.
  void Report(const v1::ReportStepsRequest& request) ABSL_LOCKS_EXCLUDED(mutex_);
  // Empty `run`: of all runs. By the names of their journals.
  v1::ListSteeringResponse List(const std::string& run) const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  FileSystem& fs_;
  const std::string directory_;
  mutable absl::Mutex mutex_;
  std::map<std::string, std::shared_ptr<SteeredPlan>> plans_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace doppel
