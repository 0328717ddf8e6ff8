#pragma once

#include "trainer/loss/selection/selection.h"

namespace doppel {

// Batch OHNM: every (anchor, positive) pair against the k nearest samples of other identities in the batch.
// `skip` leaves out the very nearest, which are the likeliest label errors ("moderately hard"): ranks skip ..
// skip + k - 1 are taken. A pair with fewer negatives (n) than that keeps k' = min(k, n) of them and skips
// min(skip, n - k').
class BatchOhnmSelector : public TripletSelector {
 public:
  // k ≥ 1, skip ≥ 0.
  BatchOhnmSelector(int k, int skip) : k_(k), skip_(skip) {}
  void Select(const AnchorRow& row, const SelectionContext& context,
              TripletSelection* selection) const override;

 private:
  const int64_t k_;
  const int64_t skip_;
};

}  // namespace doppel
