#pragma once

#include "trainer/loss/selection/selection.h"

namespace doppel {

// Margin sample mining loss (Xiao 2017): of the whole batch the farthest positive pair and the nearest
// negative pair, whose anchors may differ. Ties go to the first anchor. A negative similarity cap holds each
// anchor's negatives against its own farthest positive (those of an anchor without one are not capped).
class MsmlSelector : public TripletSelector {
 public:
  void Select(const AnchorRow& row, const SelectionContext& context,
              TripletSelection* selection) const override;
  bool WantsLoneAnchors() const override { return true; }
  void Finish(TripletSelection* selection) const override;
};

}  // namespace doppel
