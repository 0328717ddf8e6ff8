#pragma once

#include "trainer/loss/selection/selection.h"

namespace doppel {

// Per anchor one triplet at random: the positive with probability softmax(d_ap / temperature), the negative
// with softmax(-d_an / temperature). Softer than batch hard, which is the limit of temperature 0. The draw is
// a function of (seed, step, anchor).
class SoftmaxSampledSelector : public TripletSelector {
 public:
  // temperature > 0.
  SoftmaxSampledSelector(double temperature, uint64_t seed) : temperature_(temperature), seed_(seed) {}
  void Select(const AnchorRow& row, const SelectionContext& context,
              TripletSelection* selection) const override;

 private:
  const double temperature_;
  const uint64_t seed_;
};

}  // namespace doppel
