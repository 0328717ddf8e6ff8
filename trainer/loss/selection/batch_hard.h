#pragma once

#include "trainer/loss/selection/selection.h"

namespace doppel {

// Per anchor one triplet: the farthest positive, the nearest negative (TriNet's batch hard, TriHard).
class BatchHardSelector : public TripletSelector {
 public:
  TripletSelection Select(const torch::Tensor& distances,
                          absl::Span<const int64_t> identities) const override;
};

}  // namespace doppel
