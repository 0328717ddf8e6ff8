#include "trainer/loss/selection/msml.h"

#include <algorithm>

#include "trainer/loss/kernels/row_kernels.h"

namespace doppel {

void MsmlSelector::Select(const AnchorRow& row, const SelectionContext& context,
                          TripletSelection* selection) const {
  absl::Span<const float> negatives = row.negatives;
  if (!row.positives.empty()) {
    const size_t i = std::max_element(row.d_ap.begin(), row.d_ap.end()) - row.d_ap.begin();
    selection->AddPositive(row.anchor, row.positives[i], row.d_ap[i]);
    negatives = row.NegativesFor(i);
  }
  const int64_t n = BestRowKernels().argmin(negatives.data(), static_cast<int64_t>(negatives.size()));
  if (n >= 0) selection->AddNegative(row.anchor, n, negatives[n]);
}

void MsmlSelector::Finish(TripletSelection* selection) const {
  const TripletSelection all = std::move(*selection);
  *selection = {};
  if (all.ap_distance.empty() || all.an_distance.empty()) return;
  const auto farthest = std::max_element(all.ap_distance.begin(), all.ap_distance.end());
  const auto nearest = std::min_element(all.an_distance.begin(), all.an_distance.end());
  const size_t p = farthest - all.ap_distance.begin(), n = nearest - all.an_distance.begin();
  selection->AddTriplet(selection->AddPositive(all.ap_anchor[p], all.ap_positive[p], *farthest),
                        selection->AddNegative(all.an_anchor[n], all.an_negative[n], *nearest));
}

}  // namespace doppel
