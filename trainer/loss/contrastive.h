#pragma once

#include "trainer/loss/distance.h"
#include "trainer/loss/function_loss.h"
#include "trainer/loss/loss.h"
#include "trainer/loss/margin.h"

namespace doppel {

// Contrastive loss over all pairs of the batch (Hadsell, Chopra, LeCun 2006): a positive pair costs d^power,
// a negative one [margin - d]+^power (soft: ln(1 + e^(-scale * d))^power). Needs two rows, no triplet.
struct ContrastiveOptions {
  Distance distance = Distance::kEuclidean;
  Margin margin;
  int power = 2;  // 1 or 2
  // kMean (the definition): over all pairs. kBalanced: mean over positive pairs + mean over negative pairs.
  // kNonzero: likewise, but over pairs that cost anything.
  Reduction reduction = Reduction::kDefinition;
};

// active: share of the negative pairs that are still pushed (hinge), or of the anchors' negatives that are
// nearer than the anchor's farthest positive (soft).
absl::StatusOr<LossResult> ContrastiveLoss(const LossInput& input, const ContrastiveOptions& options);

using ContrastiveLossModule = FunctionLoss<ContrastiveOptions, ContrastiveLoss>;

}  // namespace doppel
