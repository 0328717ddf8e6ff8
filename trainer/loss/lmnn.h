#pragma once

#include "trainer/loss/distance.h"
#include "trainer/loss/function_loss.h"
#include "trainer/loss/loss.h"
#include "trainer/loss/margin.h"

namespace doppel {

// Large margin nearest neighbours (Weinberger, Saul 2009; TriNet section 2):
//   (1 - push) * sum over (a, p) of d_ap  +  push * sum over (a, p, n) of [d_ap - d_an + margin]+
// where p runs over the target neighbours of a, its `target_neighbours` nearest samples of the same identity
// in the batch (all, if there are fewer; ties: the first), and n over all samples of other identities.
struct LmnnOptions {
  Distance distance = Distance::kEuclidean;
  Margin margin;
  int target_neighbours = 3;
  double push = 0.5;  // mu, in [0, 1]
  // kSum (the definition), or kMean: both sums divided by the number of their terms.
  Reduction reduction = Reduction::kDefinition;
};

// INVALID_ARGUMENT names the setting that is wrong.
absl::Status CheckLmnnOptions(const LmnnOptions& options);

// active: share of the (a, p, n).
absl::StatusOr<LossResult> LmnnLoss(const LossInput& input, const LmnnOptions& options);

using LmnnLossModule = FunctionLoss<LmnnOptions, LmnnLoss>;

}  // namespace doppel
