#include "trainer/train/histogram.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace doppel {
namespace {

// Without global state: made once, never changed.
const std::vector<double>& BucketLimits() {
  static const auto* limits = [] {
    std::vector<double> positive;
    for (double edge = 1e-12; edge < 1e20; edge *= 1.1) positive.push_back(edge);
    auto* all = new std::vector<double>();
    all->reserve(2 * positive.size() + 2);
    for (auto it = positive.rbegin(); it != positive.rend(); ++it) all->push_back(-*it);
    all->push_back(0);
    all->insert(all->end(), positive.begin(), positive.end());
    all->push_back(std::numeric_limits<double>::max());
    return all;
  }();
  return *limits;
}

}  // namespace

Histogram ComputeHistogram(absl::Span<const float> values) {
  const std::vector<double>& limits = BucketLimits();
  std::vector<uint64_t> counts(limits.size(), 0);
  Histogram result;
  for (const float value : values) {
    if (!std::isfinite(value)) continue;
    const double v = value;
    result.min = result.count == 0 ? v : std::min(result.min, v);
    result.max = result.count == 0 ? v : std::max(result.max, v);
    result.sum += v;
    result.sum_squares += v * v;
    ++result.count;
    ++counts[static_cast<size_t>(std::lower_bound(limits.begin(), limits.end(), v) - limits.begin())];
  }
  if (result.count == 0) return result;
  size_t first = 0, last = counts.size() - 1;
  while (counts[first] == 0) ++first;
  while (counts[last] == 0) --last;
  if (first > 0) --first;
  for (size_t i = first; i <= last; ++i) {
    result.limits.push_back(limits[i]);
    result.buckets.push_back(counts[i]);
  }
  return result;
}

}  // namespace doppel
