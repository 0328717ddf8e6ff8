#pragma once

#include <optional>

#include "absl/status/statusor.h"
#include "trainer/loss/loss.h"
#include "trainer/loss/triplet_loss.h"

namespace doppel {

struct BatchAllOptions {
  Distance distance = Distance::kEuclidean;
  Margin margin;
  MarginSchedule schedule;
  GuardOptions guards;
  // Mean over the triplets with a loss above 0 instead of all. With a soft margin that is all of them.
  bool nonzero = false;
};

// The mean over all valid triplets of the batch of margin(d_ap - d_an) (TriNet's "batch all"). No triplet is
// ever spelt out: every negative is compared with its anchor's few positives, or, where these are many
// (hinge, no guards), found among their sorted thresholds; the gradient is one matrix product with the slopes
// of all pairs. Two matrices [B, columns] of memory, four with guards.
absl::StatusOr<LossResult> BatchAllLoss(const LossInput& input, const BatchAllOptions& options);

class BatchAllLossModule : public Loss {
 public:
  explicit BatchAllLossModule(const BatchAllOptions& options) : options_(options) {}
  absl::StatusOr<LossResult> Compute(const LossInput& input) override {
    return BatchAllLoss(input, options_);
  }
  std::optional<double> CollapsedValue() const override { return CollapsedLoss(options_.margin); }

 private:
  const BatchAllOptions options_;
};

}  // namespace doppel
