#include "trainer/loss/statistics.h"

#include <algorithm>
#include <cmath>

namespace doppel {
namespace {

// Sorted before `from` by earlier calls: quantiles must be asked for in rising order.
double Quantile(std::vector<float>& values, size_t& from, double q) {
  const double position = q * static_cast<double>(values.size() - 1);
  const size_t low = static_cast<size_t>(position);
  std::nth_element(values.begin() + from, values.begin() + low, values.end());
  from = low;
  const double fraction = position - static_cast<double>(low);
  if (fraction == 0) return values[low];
  const double next = *std::min_element(values.begin() + low + 1, values.end());
  return values[low] + fraction * (next - values[low]);
}

}  // namespace

Percentiles ComputePercentiles(std::vector<float> values) {
  Percentiles result;
  if (values.empty()) return result;
  size_t from = 0;
  result.p0 = Quantile(values, from, 0.0);
  result.p5 = Quantile(values, from, 0.05);
  result.p50 = Quantile(values, from, 0.5);
  result.p95 = Quantile(values, from, 0.95);
  result.p100 = Quantile(values, from, 1.0);
  return result;
}

}  // namespace doppel
