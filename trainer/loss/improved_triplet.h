#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "trainer/loss/distance.h"
#include "trainer/loss/function_loss.h"
#include "trainer/loss/loss.h"
#include "trainer/loss/margin.h"

namespace doppel {

// d_ap + [d_ap - d_an + margin]+ : also draws positives together where the triplet is content (Cheng et al.,
// CVPR 2016). The mean over all valid triplets of the batch, over those given in the options, or over each
// anchor's farthest positive and nearest negative.
struct ImprovedTripletOptions {
  Distance distance = Distance::kEuclidean;
  Margin margin;
  bool hardest = false;
  double pull = 1;  // weight of the first term, ≥ 0
  // (anchor, positive, negative): rows of the batch; positives and negatives from B on are rows of the
  // memory. Empty: the batch's own.
  std::vector<std::array<int64_t, 3>> triplets;
};

absl::StatusOr<LossResult> ImprovedTripletLoss(const LossInput& input, const ImprovedTripletOptions& options);

using ImprovedTripletLossModule = FunctionLoss<ImprovedTripletOptions, ImprovedTripletLoss>;

}  // namespace doppel
