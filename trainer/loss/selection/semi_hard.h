#pragma once

#include "trainer/loss/selection/selection.h"

namespace doppel {

// FaceNet's semi-hard negatives: every (anchor, positive) pair with one negative of d_ap < d_an < d_ap +
// width, the nearest such or a random one. The width is the margin; with a soft margin, `soft_width`. Pairs
// without such a negative are left out.
class SemiHardSelector : public TripletSelector {
 public:
  enum class Choice { kNearest, kRandom };
  // `seed` is for kRandom: the draw is a function of (seed, step, anchor, positive).
  SemiHardSelector(Choice choice, double soft_width, uint64_t seed)
      : choice_(choice), soft_width_(soft_width), seed_(seed) {}
  void Select(const AnchorRow& row, const SelectionContext& context,
              TripletSelection* selection) const override;

 private:
  const Choice choice_;
  const double soft_width_;
  const uint64_t seed_;
};

}  // namespace doppel
