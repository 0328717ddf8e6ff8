#include "trainer/train/starvation_detector.h"

#include <algorithm>

#include "absl/strings/str_format.h"

namespace doppel {

bool StarvationDetector::Due(uint64_t step, uint64_t* last) const {
  if (*last != 0 && step - *last < options_.repeat) return false;
  *last = step;
  return true;
}

std::vector<std::string> StarvationDetector::Observe(const StepRecord& record) {
  std::vector<std::string> warnings;
  const LossStatistics& loss = record.statistics.loss;
  const bool idle = !record.statistics.skipped && loss.triplets > 0 && loss.active < options_.active_share;
  idle_run_ = idle ? idle_run_ + 1 : 0;
  if (idle_run_ >= options_.patience && Due(record.step, &idle_warned_)) {
    warnings.push_back(absl::StrFormat(
        "the batches teach almost nothing: for %d steps less than %.2g %% of the triplets have been active. "
        "Re-cluster with the current model (doppel recluster --model RUN/model) or take --plan subspace, "
        "smaller subspaces, a larger -P, or a harder loss (batch_ohnm with a smaller --skip, batch_hard)",
        idle_run_, options_.active_share * 100));
  }

  ++steps_;
  skipped_ += record.statistics.skipped ? 1 : 0;
  waited_ += record.wait_seconds;
  computed_ += record.step_seconds;
  if (record.statistics.skipped && Due(record.step, &skip_warned_)) {
    warnings.push_back(absl::StrFormat(
        "step %d was skipped, its loss or gradient was not finite (%d of the last %d steps): the weights are "
        "as before. If that goes on, lower the learning rate, lengthen the warm-up, or clip gradients "
        "(--clip-norm)",
        record.step, skipped_, steps_));
  }
  if (steps_ < std::max<uint64_t>(options_.window, 1)) return warnings;
  const double share = waited_ + computed_ > 0 ? waited_ / (waited_ + computed_) : 0;
  if (share > options_.wait_share && Due(record.step, &wait_warned_)) {
    warnings.push_back(absl::StrFormat(
        "the trainer has spent %.0f %% of the last %d steps waiting for batches. More --decode-threads or "
        "--prefetch help if this machine is the bottleneck, --payload reference if both see the same disk, "
        "and another miner or a faster network if the stream is",
        share * 100, steps_));
  }
  steps_ = skipped_ = 0;
  waited_ = computed_ = 0;
  return warnings;
}

}  // namespace doppel
