#pragma once

#include "trainer/loss/selection/selection.h"

namespace doppel {

// OHNM: every (anchor, positive) pair with `draws` different negatives at random (all, if there are fewer).
// Which is a function of (seed, step, anchor, positive). The loss then counts only those that violate the
// margin.
class RandomNegativesSelector : public TripletSelector {
 public:
  // draws ≥ 1.
  RandomNegativesSelector(int draws, uint64_t seed) : draws_(draws), seed_(seed) {}
  void Select(const AnchorRow& row, const SelectionContext& context,
              TripletSelection* selection) const override;

 private:
  const int64_t draws_;
  const uint64_t seed_;
};

}  // namespace doppel
