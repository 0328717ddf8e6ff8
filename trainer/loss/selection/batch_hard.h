#pragma once

#include "trainer/loss/selection/selection.h"

namespace doppel {

// Per anchor one triplet: the farthest positive, the nearest negative (TriNet's batch hard, TriHard). Ties go
// to the first column.
class BatchHardSelector : public TripletSelector {
 public:
  void Select(const AnchorRow& row, const SelectionContext& context,
              TripletSelection* selection) const override;
};

}  // namespace doppel
