#pragma once

#include "trainer/loss/distance.h"
#include "trainer/loss/function_loss.h"
#include "trainer/loss/loss.h"
#include "trainer/loss/margin.h"

namespace doppel {

// Adaptive weights (Ristani, Tomasi, CVPR 2018): the mean over the anchors of
//   [m + sum_p w_p d_ap - sum_n w_n d_an]+,  w_p = softmax(d_ap), w_n = softmax(-d_an) over the anchor's set.
// The gradient goes through the weights too.
struct AdaptiveWeightsOptions {
  Distance distance = Distance::kEuclidean;
  Margin margin;
  // As fast-reid does it: the anchor counts among its own positives, and 1e-6 is added to the denominators of
  // the weights (so they sum to less than 1 where all negatives are far).
  bool as_fast_reid = false;
};

absl::StatusOr<LossResult> AdaptiveWeightsLoss(const LossInput& input, const AdaptiveWeightsOptions& options);

using AdaptiveWeightsLossModule = FunctionLoss<AdaptiveWeightsOptions, AdaptiveWeightsLoss>;

}  // namespace doppel
