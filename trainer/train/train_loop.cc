#include "trainer/train/train_loop.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

class Loop {
 public:
  Loop(TrainingBatchSource& source, const TrainLoopOptions& options, const TrainLoopHooks& hooks,
       const Clock& clock)
      : source_(source),
        options_(options),
        hooks_(hooks),
        clock_(clock),
        collapse_(options.collapse),
        starvation_(options.starvation) {
    result_.steps = saved_at_ = options.first_step;
    result_.next_cursor = options.first_cursor;
  }

  absl::StatusOr<TrainLoopResult> Run() {
    RETURN_IF_ERROR(CheckSchedule(options_.schedule));
    if (options_.accumulate < 1) return absl::InvalidArgumentError("a step needs at least one batch");
    if (result_.steps == 0) RETURN_IF_ERROR(Evaluate());
    while (result_.steps < options_.steps && !GoalReached()) {
      ASSIGN_OR_RETURN(const bool go_on, Step());
      if (!go_on) return result_;
    }
    RETURN_IF_ERROR(Checkpoint());
    return result_;
  }

 private:
  bool Stopping() const { return hooks_.should_stop && hooks_.should_stop(); }

  bool GoalReached() {
    result_.goal_reached = hooks_.goal_reached && hooks_.goal_reached();
    return result_.goal_reached;
  }

  // False: the run ends here, and has been saved.
  absl::StatusOr<bool> Step() {
    StepRecord record;
    record.step = result_.steps + 1;
    record.learning_rate = LearningRate(options_.schedule, result_.steps);
    record.batches = options_.accumulate;
    size_t images = 0;
    cursors_.clear();
    for (int i = 0; i < options_.accumulate; ++i) {
      if (Stopping()) return Stop();
      const absl::Time asked = clock_.Now();
      absl::StatusOr<TrainingBatch> batch = source_.Next();
      record.wait_seconds += absl::ToDoubleSeconds(clock_.Now() - asked);
      if (!batch.ok()) {
        if (Stopping()) return Stop();
        return SourceEnded(batch.status());
      }
      RETURN_IF_ERROR(Part(*batch, i, &record));
      images += batch->identities.size();
    }
    const double seconds = record.wait_seconds + record.step_seconds;
    if (seconds > 0) record.images_per_second = static_cast<double>(images) / seconds;
    RETURN_IF_ERROR(Done(record));
    return true;
  }

  absl::StatusOr<bool> Stop() {
    result_.stopped = true;
    RETURN_IF_ERROR(Checkpoint());
    return false;
  }

  absl::StatusOr<bool> SourceEnded(const absl::Status& status) {
    RETURN_IF_ERROR(Checkpoint());
    if (!absl::IsOutOfRange(status)) return status;
    result_.source_ended = true;
    return false;
  }

  absl::Status Part(const TrainingBatch& batch, int index, StepRecord* record) {
    const uint64_t due = result_.next_cursor + static_cast<uint64_t>(index);
    if (options_.every_cursor && batch.cursor != due) {
      return absl::InternalError(absl::StrCat("the batch source delivered cursor ", batch.cursor, " where ",
                                              due, " was due: batches would be lost or repeated"));
    }
    cursors_.push_back(batch.cursor);
    const absl::Time begun = clock_.Now();
    const StepPart part = {result_.steps, record->learning_rate, index, options_.accumulate};
    absl::StatusOr<StepStatistics> statistics = hooks_.step(batch, part);
    record->step_seconds += absl::ToDoubleSeconds(clock_.Now() - begun);
    if (!statistics.ok()) {
      return absl::Status(statistics.status().code(),
                          absl::StrCat("step ", record->step, " (generation ", batch.generation, ", cursor ",
                                       batch.cursor, "): ", statistics.status().message()));
    }
    record->statistics = *statistics;
    if (index > 0) return absl::OkStatus();
    record->generation = batch.generation;
    record->cursor = batch.cursor;
    record->epoch = batch.epoch;
    record->subspace = batch.subspace;
    record->mean_similarity = batch.mean_similarity;
    record->max_similarity = batch.max_similarity;
    return absl::OkStatus();
  }

  absl::Status Done(const StepRecord& record) {
    ++result_.steps;
    result_.next_cursor = std::max(result_.next_cursor, cursors_.back() + 1);
    if (hooks_.record) RETURN_IF_ERROR(hooks_.record(record));
    if (options_.every_cursor) {
      source_.Acknowledge(result_.next_cursor - 1);
    } else {
      for (const uint64_t cursor : cursors_) source_.Acknowledge(cursor);
    }
    Watch(record);
    const bool last = result_.steps == options_.steps;
    if (options_.evaluate_every > 0 && (last || result_.steps % options_.evaluate_every == 0)) {
      RETURN_IF_ERROR(Evaluate());
    }
    if (options_.checkpoint_every > 0 && result_.steps % options_.checkpoint_every == 0) return Checkpoint();
    return absl::OkStatus();
  }

  void Watch(const StepRecord& record) {
    const auto collapsed = collapse_.Observe(record.statistics.loss);
    const std::vector<std::string> starved = starvation_.Observe(record);
    if (!hooks_.warn) return;
    if (collapsed.has_value()) hooks_.warn(*collapsed);
    for (const std::string& warning : starved) hooks_.warn(warning);
  }

  absl::Status Evaluate() {
    if (options_.evaluate_every == 0 || !hooks_.evaluate) return absl::OkStatus();
    return hooks_.evaluate(result_.steps);
  }

  absl::Status Checkpoint() {
    if (saved_at_ == result_.steps || !hooks_.checkpoint) return absl::OkStatus();
    RETURN_IF_ERROR(hooks_.checkpoint(result_.steps, result_.next_cursor));
    saved_at_ = result_.steps;
    return absl::OkStatus();
  }

  TrainingBatchSource& source_;
  const TrainLoopOptions& options_;
  const TrainLoopHooks& hooks_;
  const Clock& clock_;
  CollapseDetector collapse_;
  StarvationDetector starvation_;
  TrainLoopResult result_;
  std::vector<uint64_t> cursors_;  // of the batches of this step
  uint64_t saved_at_ = 0;
};

}  // namespace

absl::StatusOr<TrainLoopResult> RunTrainLoop(TrainingBatchSource& source, const TrainLoopOptions& options,
                                             const TrainLoopHooks& hooks, const Clock& clock) {
  return Loop(source, options, hooks, clock).Run();
}

}  // namespace doppel
