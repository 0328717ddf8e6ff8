#include "trainer/loss/selection/softmax_sampled.h"

#include <algorithm>
#include <cmath>

#include "common/base/philox.h"
#include "trainer/loss/kernels/row_kernels.h"

namespace doppel {
namespace {

// The first index at which the running sum of weights exceeds `target`; the last positive weight if rounding
// leaves none.
size_t AtCumulative(absl::Span<const float> weights, double target) {
  double sum = 0;
  size_t last = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] <= 0) continue;
    sum += weights[i];
    last = i;
    if (sum > target) return i;
  }
  return last;
}

}  // namespace

void SoftmaxSampledSelector::Select(const AnchorRow& row, const SelectionContext& context,
                                    TripletSelection* selection) const {
  const RowKernels& kernels = BestRowKernels();
  const Philox random(MixKey(seed_, context.step));
  std::vector<float> weights(row.positives.size());
  const double farthest = *std::max_element(row.d_ap.begin(), row.d_ap.end());
  double total = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    weights[i] = static_cast<float>(std::exp((row.d_ap[i] - farthest) / temperature_));
    total += weights[i];
  }
  const size_t p = AtCumulative(weights, total * random.Uniform(row.anchor, 0));

  const absl::Span<const float> negatives = row.NegativesFor(p);
  const int64_t columns = static_cast<int64_t>(negatives.size());
  const int64_t nearest = kernels.argmin(negatives.data(), columns);
  if (nearest < 0) return;
  weights.resize(negatives.size());
  total = kernels.exponentials(negatives.data(), negatives[nearest], static_cast<float>(1 / temperature_),
                               weights.data(), columns);
  const size_t n = AtCumulative(weights, total * random.Uniform(row.anchor, 1));
  selection->AddTriplet(selection->AddPositive(row.anchor, row.positives[p], row.d_ap[p]),
                        selection->AddNegative(row.anchor, static_cast<int64_t>(n), negatives[n]));
}

}  // namespace doppel
