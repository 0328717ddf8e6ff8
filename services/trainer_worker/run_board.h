#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/io/file_system.h"
#include "services/trainer_worker/train_options.h"
#include "trainer/stream/batch_source.h"
#include "trainer/train/event_file.h"
#include "trainer/train/snapshot.h"
#include "trainer/train/step_record.h"

namespace doppel {

// What TensorBoard shows of a run: scalars of steps and evaluations, and now and then histograms (weights,
// embedding norms, distances) and the hardest triplets as images. Not thread-safe.
class RunBoard {
 public:
  // Events of step `first_step` and later are forgotten. `fs` and `clock` are not owned.
  static absl::StatusOr<std::unique_ptr<RunBoard>> Open(FileSystem& fs, const std::string& directory,
                                                        const TrainOptions& options, uint64_t first_step,
                                                        const Clock& clock);

  bool WantsDetails(uint64_t step) const {
    return details_every_ > 0 && (step == 1 || step % details_every_ == 0);
  }
  // Goes out with the next Step. `batch`: the one that the snapshot is of.
  absl::Status AddDetails(const StepSnapshot& snapshot, const TrainingBatch& batch);
  absl::Status Step(const StepRecord& record);
  // `report`: the evaluation's JSON line; its numbers become scalars "eval/…".
  absl::Status Evaluation(uint64_t step, const std::string& report);
  absl::Status Sync() { return log_->Sync(); }

 private:
  RunBoard(std::unique_ptr<EventLog> log, const TrainOptions& options, const Clock& clock)
      : log_(std::move(log)),
        every_(options.tensorboard_every),
        details_every_(options.tensorboard_details_every),
        clock_(clock) {}
  absl::Status AddHardest(const StepSnapshot& snapshot, const TrainingBatch& batch);

  const std::unique_ptr<EventLog> log_;
  const uint64_t every_;
  const uint64_t details_every_;
  const Clock& clock_;
  bool details_pending_ = false;
};

}  // namespace doppel
