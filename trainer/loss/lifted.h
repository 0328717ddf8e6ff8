#pragma once

#include "trainer/loss/distance.h"
#include "trainer/loss/function_loss.h"
#include "trainer/loss/loss.h"
#include "trainer/loss/margin.h"

namespace doppel {

struct LiftedOptions {
  Distance distance = Distance::kEuclidean;
  // Soft bends [z + margin]+ to ln(1 + e^(scale * z)), z being the term without the margin.
  Margin margin;
  // Of LiftedPxkLoss alone: kSum (the definition) or kMean, over the anchors.
  Reduction reduction = Reduction::kDefinition;
};

// Lifted structure (Oh Song et al., CVPR 2016), P being the set of unordered positive pairs:
//   1 / (2 |P|) * sum over (i, j) of [d_ij + log(sum_{n of i} e^(m - d_in) + sum_{n of j} e^(m - d_jn))]+^2
// A pair with a row of the memory has the negatives of its row in the batch only. active: share of the pairs.
absl::StatusOr<LossResult> LiftedLoss(const LossInput& input, const LiftedOptions& options);

// The form for P x K batches (Hermans et al. 2017, "generalized lifted structure"):
//   sum over anchors of [log sum_p e^(d_ap) + log sum_n e^(m - d_an)]+      active: share of the anchors.
absl::StatusOr<LossResult> LiftedPxkLoss(const LossInput& input, const LiftedOptions& options);

using LiftedLossModule = FunctionLoss<LiftedOptions, LiftedLoss>;
using LiftedPxkLossModule = FunctionLoss<LiftedOptions, LiftedPxkLoss>;

}  // namespace doppel
