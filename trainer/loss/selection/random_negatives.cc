#include "trainer/loss/selection/random_negatives.h"

#include <algorithm>
#include <limits>

#include "common/base/philox.h"

namespace doppel {

void RandomNegativesSelector::Select(const AnchorRow& row, const SelectionContext& context,
                                     TripletSelection* selection) const {
  const Philox random(MixKey(seed_, context.step));
  const uint64_t columns_in_all = row.negatives.size();
  std::vector<int32_t> columns;
  for (size_t i = 0; i < row.positives.size(); ++i) {
    const absl::Span<const float> negatives = row.NegativesFor(i);
    if (i == 0 || !row.same_negatives()) {
      columns.clear();
      for (size_t j = 0; j < negatives.size(); ++j) {
        if (negatives[j] < std::numeric_limits<float>::infinity()) columns.push_back(static_cast<int32_t>(j));
      }
    }
    const int64_t count = static_cast<int64_t>(columns.size()), draws = std::min(draws_, count);
    if (draws == 0) continue;
    const int64_t pair = selection->AddPositive(row.anchor, row.positives[i], row.d_ap[i]);
    // The beginning of a shuffle, undone afterwards: the next pair's draws do not depend on this one's.
    std::vector<std::pair<int64_t, int64_t>> swaps;
    for (int64_t k = 0; k < draws; ++k) {
      const uint64_t counter = static_cast<uint64_t>(k) * columns_in_all + row.positives[i];
      const int64_t other = k + static_cast<int64_t>(random.Below(count - k, counter, row.anchor));
      std::swap(columns[k], columns[other]);
      swaps.emplace_back(k, other);
      selection->AddTriplet(pair, selection->AddNegative(row.anchor, columns[k], negatives[columns[k]]));
    }
    for (auto it = swaps.rbegin(); it != swaps.rend(); ++it)
      std::swap(columns[it->first], columns[it->second]);
  }
}

}  // namespace doppel
