#include "trainer/loss/selection/batch_ohnm.h"

#include <algorithm>
#include <numeric>

#include "trainer/loss/kernels/row_kernels.h"

namespace doppel {
namespace {

// Up to here inserting into a sorted list is the quickest.
constexpr int64_t kFewNearest = 64;

// Columns of the `wanted` nearest negatives, nearest first (ties: first column).
void Nearest(absl::Span<const float> row, int64_t wanted, std::vector<int32_t>* columns) {
  const int64_t n = static_cast<int64_t>(row.size());
  wanted = std::min(wanted, n);
  if (wanted <= kFewNearest) {
    float values[kFewNearest];
    columns->resize(wanted);
    columns->resize(BestRowKernels().smallest(row.data(), n, wanted, values, columns->data()));
    return;
  }
  columns->clear();
  for (int64_t j = 0; j < n; ++j) {
    if (row[j] < std::numeric_limits<float>::infinity()) columns->push_back(static_cast<int32_t>(j));
  }
  const auto nearer = [row](int32_t a, int32_t b) { return row[a] != row[b] ? row[a] < row[b] : a < b; };
  wanted = std::min<int64_t>(wanted, static_cast<int64_t>(columns->size()));
  std::partial_sort(columns->begin(), columns->begin() + wanted, columns->end(), nearer);
  columns->resize(wanted);
}

}  // namespace

void BatchOhnmSelector::Select(const AnchorRow& row, const SelectionContext& context,
                               TripletSelection* selection) const {
  std::vector<int32_t> nearest;
  int64_t first = 0, taken = 0;
  for (size_t i = 0; i < row.positives.size(); ++i) {
    if (i == 0 || !row.same_negatives()) {
      const absl::Span<const float> negatives = row.NegativesFor(i);
      // skip + k nearest: as many as are skipped or taken, however few there are.
      Nearest(negatives, k_ + skip_, &nearest);
      const int64_t found = static_cast<int64_t>(nearest.size());
      taken = std::min(k_, found);
      const int64_t skip = std::min(skip_, found - taken);
      first = static_cast<int64_t>(selection->an_anchor.size());
      for (int64_t rank = skip; rank < skip + taken; ++rank) {
        selection->AddNegative(row.anchor, nearest[rank], negatives[nearest[rank]]);
      }
    }
    if (taken == 0) continue;
    const int64_t pair = selection->AddPositive(row.anchor, row.positives[i], row.d_ap[i]);
    for (int64_t n = first; n < first + taken; ++n) selection->AddTriplet(pair, n);
  }
}

}  // namespace doppel
