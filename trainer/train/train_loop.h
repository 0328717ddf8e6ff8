#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "trainer/stream/batch_source.h"
#include "trainer/train/collapse_detector.h"
#include "trainer/train/schedule.h"
#include "trainer/train/starvation_detector.h"
#include "trainer/train/step_record.h"

namespace doppel {

struct TrainLoopOptions {
  uint64_t first_step = 0;    // steps done before (a resumed run)
  uint64_t first_cursor = 0;  // of the batch that comes first
  // False: this trainer shares its plan with others, so there are gaps between its cursors.
  bool every_cursor = true;
  uint64_t steps = 0;             // to have done at the end
  int accumulate = 1;             // batches per step
  uint64_t checkpoint_every = 0;  // 0: only at the end
  uint64_t evaluate_every =
      0;  // 0: never; otherwise also before the first step of a fresh run and at the end
  ScheduleOptions schedule;
  CollapseOptions collapse;
  StarvationOptions starvation;
};

// What the loop drives. All run in the caller's thread; unset ones are left out, `step` must be set.
struct TrainLoopHooks {
  // Called for each of a step's batches; what it returns for the last of them (index + 1 == count) counts.
  std::function<absl::StatusOr<StepStatistics>(const TrainingBatch& batch, const StepPart& part)> step;
  std::function<absl::Status(const StepRecord&)> record;
  // `next_cursor` is the cursor that a run resumed here has to ask for. Only between two steps.
  std::function<absl::Status(uint64_t step, uint64_t next_cursor)> checkpoint;
  std::function<absl::Status(uint64_t step)> evaluate;
  std::function<void(const std::string&)> warn;
  // True: checkpoint and return after the current step. A source that is cancelled at the same time need not
  // deliver.
  std::function<bool()> should_stop;
  // True: the run has reached what it was for (early stopping). Asked after evaluations and at the start.
  std::function<bool()> goal_reached;
};

struct TrainLoopResult {
  uint64_t steps = 0;  // done, those before first_step included
  uint64_t next_cursor = 0;
  bool stopped = false;       // by should_stop
  bool source_ended = false;  // OUT_OF_RANGE before the last step
  bool goal_reached = false;  // by goal_reached
};

// Pulls, steps, records, and acknowledges a step's batches after it. At an evaluation step the evaluation
// comes before the checkpoint, so that a resumed run repeats neither more nor less. A step that has only part
// of its batches when the run ends is forgotten: the resumed run asks for all of them again. If the source
// fails for good, what was learnt since the last checkpoint is saved before its error is returned; if a step
// fails, it is not.
absl::StatusOr<TrainLoopResult> RunTrainLoop(TrainingBatchSource& source, const TrainLoopOptions& options,
                                             const TrainLoopHooks& hooks, const Clock& clock = Clock::Real());

}  // namespace doppel
