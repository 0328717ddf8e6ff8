#include "trainer/loss/adaptive_weights.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/base/status_macros.h"
#include "trainer/loss/pair_rows.h"

namespace doppel {
namespace {

constexpr double kFastReidEpsilon = 1e-6;

// sum_i w_i d_i with w = e^(sign * d_i - shift) / (sum_j e^(sign * d_j - shift) + epsilon), and its slopes.
// The shift is the largest exponent if `shifted`, else 0; it matters, and has a slope, only where epsilon >
// 0.
double WeightedMean(const std::vector<double>& d, double sign, double epsilon, bool shifted,
                    std::vector<double>* slopes) {
  size_t top = 0;
  for (size_t i = 1; i < d.size(); ++i) {
    if (sign * d[i] > sign * d[top]) top = i;
  }
  const double shift = shifted ? sign * d[top] : 0;
  double total = epsilon, weighted = 0;
  slopes->resize(d.size());
  for (size_t i = 0; i < d.size(); ++i) {
    const double e = std::exp(sign * d[i] - shift);
    (*slopes)[i] = e;
    total += e;
    weighted += e * d[i];
  }
  const double mean = weighted / total;
  for (size_t i = 0; i < d.size(); ++i) (*slopes)[i] *= (1 + sign * (d[i] - mean)) / total;
  if (shifted) (*slopes)[top] -= sign * mean * epsilon / total;
  return mean;
}

}  // namespace

absl::StatusOr<LossResult> AdaptiveWeightsLoss(const LossInput& input,
                                               const AdaptiveWeightsOptions& options) {
  RETURN_IF_ERROR(CheckMargin(options.margin));
  ASSIGN_OR_RETURN(PairRows rows, PairRows::Make(input, options.distance, "adaptive_weights"));
  AnchorPairs pairs;
  double count = 0;
  for (int64_t a = 0; a < rows.rows(); ++a) {
    rows.Read(a, &pairs);
    count += !pairs.positives.empty() && !pairs.negatives.empty();
  }
  if (count == 0) return rows.Nothing();
  const double epsilon = options.as_fast_reid ? kFastReidEpsilon : 0;
  std::vector<double> pull, push;
  double value = 0, active = 0;
  for (int64_t a = 0; a < rows.rows(); ++a) {
    rows.Read(a, &pairs);
    if (pairs.positives.empty() || pairs.negatives.empty()) continue;
    if (options.as_fast_reid) {
      pairs.positives.push_back(a);  // the diagonal: it has no gradient
      pairs.d_ap.push_back(rows.At(a, a));
    }
    const double z = WeightedMean(pairs.d_ap, 1, epsilon, /*shifted=*/true, &pull) -
                     WeightedMean(pairs.d_an, -1, epsilon, /*shifted=*/epsilon == 0, &push);
    const MarginTerm term = BendMargin(z, options.margin);
    value += term.value / count;
    active += MarginActive(z, options.margin);
    if (term.slope == 0) continue;
    for (double& slope : pull) slope *= term.slope / count;
    for (double& slope : push) slope *= -term.slope / count;
    rows.AddSlopes(a, pairs.positives, pull);
    rows.AddSlopes(a, pairs.negatives, push);
  }
  LossStatistics statistics = rows.AllPairsStatistics();
  statistics.triplets = static_cast<int64_t>(count);
  statistics.active = active / count;
  return rows.Finish(value, statistics);
}

}  // namespace doppel
