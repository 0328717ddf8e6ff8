#pragma once

#include "trainer/loss/distance.h"
#include "trainer/loss/function_loss.h"
#include "trainer/loss/loss.h"
#include "trainer/loss/margin.h"

namespace doppel {

// Quadruplet loss (Chen et al., CVPR 2017): [d_ap - d_an1 + alpha]+ + [d_ap - d_n1n2 + beta]+, where a and p,
// n1, and n2 are of three identities. The hardest one of every anchor: p is its farthest positive, n1 its
// nearest negative, n2 the sample nearest to n1 that is of neither identity. The mean over the anchors that
// have one. A memory cannot be used: distances within it are not known.
struct QuadrupletOptions {
  Distance distance = Distance::kEuclidean;
  Margin margin;  // alpha; soft bends both terms
  // beta < alpha; below 0: alpha / 2. Hinge only.
  double beta = -1;
};

// The margin of the second term. INVALID_ARGUMENT if beta is not below alpha.
absl::StatusOr<Margin> QuadrupletBeta(const QuadrupletOptions& options);

// active: share of the 2 * anchors terms. d_an holds d_an1.
absl::StatusOr<LossResult> QuadrupletLoss(const LossInput& input, const QuadrupletOptions& options);

using QuadrupletLossModule = FunctionLoss<QuadrupletOptions, QuadrupletLoss>;

}  // namespace doppel
