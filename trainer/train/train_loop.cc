#include "trainer/train/train_loop.h"

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

class Loop {
 public:
  Loop(TrainingBatchSource& source, const TrainLoopOptions& options, const TrainLoopHooks& hooks,
       const Clock& clock)
      : source_(source), options_(options), hooks_(hooks), clock_(clock), detector_(options.collapse) {
    result_.steps = saved_at_ = options.first_step;
    result_.next_cursor = options.first_cursor;
  }

  absl::StatusOr<TrainLoopResult> Run() {
    RETURN_IF_ERROR(CheckSchedule(options_.schedule));
    if (result_.steps == 0) RETURN_IF_ERROR(Evaluate());
    while (result_.steps < options_.steps) {
      if (Stopping()) return Stop();
      const absl::Time asked = clock_.Now();
      absl::StatusOr<TrainingBatch> batch = source_.Next();
      if (!batch.ok()) {
        if (Stopping()) return Stop();
        return SourceEnded(batch.status());
      }
      RETURN_IF_ERROR(Step(*batch, clock_.Now() - asked));
    }
    RETURN_IF_ERROR(Checkpoint());
    return result_;
  }

 private:
  bool Stopping() const { return hooks_.should_stop && hooks_.should_stop(); }

  absl::StatusOr<TrainLoopResult> Stop() {
    result_.stopped = true;
    RETURN_IF_ERROR(Checkpoint());
    return result_;
  }

  absl::StatusOr<TrainLoopResult> SourceEnded(const absl::Status& status) {
    RETURN_IF_ERROR(Checkpoint());
    if (!absl::IsOutOfRange(status)) return status;
    result_.source_ended = true;
    return result_;
  }

  absl::Status Step(const TrainingBatch& batch, absl::Duration waited) {
    if (batch.cursor != result_.next_cursor) {
      return absl::InternalError(absl::StrCat("the batch source delivered cursor ", batch.cursor, " where ",
                                              result_.next_cursor,
                                              " was due: batches would be lost or repeated"));
    }
    StepRecord record;
    record.step = result_.steps + 1;
    record.learning_rate = LearningRate(options_.schedule, result_.steps);
    const absl::Time begun = clock_.Now();
    absl::StatusOr<StepStatistics> statistics = hooks_.step(batch, record.learning_rate);
    const absl::Duration took = clock_.Now() - begun;
    if (!statistics.ok()) {
      return absl::Status(statistics.status().code(),
                          absl::StrCat("step ", record.step, " (generation ", batch.generation, ", cursor ",
                                       batch.cursor, "): ", statistics.status().message()));
    }
    record.statistics = *statistics;
    record.generation = batch.generation;
    record.cursor = batch.cursor;
    record.epoch = batch.epoch;
    record.subspace = batch.subspace;
    record.mean_similarity = batch.mean_similarity;
    record.max_similarity = batch.max_similarity;
    record.wait_seconds = absl::ToDoubleSeconds(waited);
    record.step_seconds = absl::ToDoubleSeconds(took);
    const double seconds = record.wait_seconds + record.step_seconds;
    if (seconds > 0) record.images_per_second = static_cast<double>(batch.identities.size()) / seconds;

    ++result_.steps;
    ++result_.next_cursor;
    if (hooks_.record) RETURN_IF_ERROR(hooks_.record(record));
    source_.Acknowledge(batch.cursor);
    const auto warning = detector_.Observe(record.statistics.loss);
    if (warning.has_value() && hooks_.warn) hooks_.warn(*warning);

    const bool last = result_.steps == options_.steps;
    if (options_.evaluate_every > 0 && (last || result_.steps % options_.evaluate_every == 0)) {
      RETURN_IF_ERROR(Evaluate());
    }
    if (options_.checkpoint_every > 0 && result_.steps % options_.checkpoint_every == 0) return Checkpoint();
    return absl::OkStatus();
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
  CollapseDetector detector_;
  TrainLoopResult result_;
  uint64_t saved_at_ = 0;
};

}  // namespace

absl::StatusOr<TrainLoopResult> RunTrainLoop(TrainingBatchSource& source, const TrainLoopOptions& options,
                                             const TrainLoopHooks& hooks, const Clock& clock) {
  return Loop(source, options, hooks, clock).Run();
}

}  // namespace doppel
