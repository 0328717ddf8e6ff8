#include "trainer/loss/selection/batch_hard.h"

#include <algorithm>

#include "trainer/loss/kernels/row_kernels.h"

namespace doppel {

void BatchHardSelector::Select(const AnchorRow& row, const SelectionContext& context,
                               TripletSelection* selection) const {
  const size_t i = std::max_element(row.d_ap.begin(), row.d_ap.end()) - row.d_ap.begin();
  const absl::Span<const float> negatives = row.NegativesFor(i);
  const int64_t n = BestRowKernels().argmin(negatives.data(), static_cast<int64_t>(negatives.size()));
  if (n < 0) return;
  selection->AddTriplet(selection->AddPositive(row.anchor, row.positives[i], row.d_ap[i]),
                        selection->AddNegative(row.anchor, n, negatives[n]));
}

}  // namespace doppel
