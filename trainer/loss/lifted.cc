#include "trainer/loss/lifted.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "common/base/status_macros.h"
#include "trainer/loss/pair_rows.h"

namespace doppel {
namespace {

constexpr double kNone = -std::numeric_limits<double>::infinity();

// log(e^a + e^b); each may be -infinity, but not both.
double LogAdd(double a, double b) {
  const double high = std::max(a, b), low = std::min(a, b);
  return low == kNone ? high : high + std::log1p(std::exp(low - high));
}

void ScaleAll(double factor, std::vector<double>* values) {
  for (double& value : *values) value *= factor;
}

}  // namespace

absl::StatusOr<LossResult> LiftedLoss(const LossInput& input, const LiftedOptions& options) {
  RETURN_IF_ERROR(CheckMargin(options.margin));
  RETURN_IF_ERROR(CheckReduction("lifted", options.reduction, {Reduction::kMean}));
  ASSIGN_OR_RETURN(PairRows rows, PairRows::Make(input, options.distance, "lifted"));
  // log sum_n e^(-d_in), by row.
  std::vector<double> push(static_cast<size_t>(rows.columns()), kNone);
  std::vector<double> softmax;
  AnchorPairs pairs;
  double count = 0;
  const auto is_pair = [&](int64_t i, int64_t j) {
    return rows.SameIdentity(i, j) && !rows.Excluded(i, j) && (push[i] != kNone || push[j] != kNone);
  };
  for (int64_t i = 0; i < rows.rows(); ++i) {
    rows.Read(i, &pairs);
    push[i] = LogSumExp(pairs.d_an, -1, &softmax);
  }
  for (int64_t i = 0; i < rows.rows(); ++i) {
    for (int64_t j = i + 1; j < rows.columns(); ++j) count += is_pair(i, j);
  }
  if (count == 0) return rows.Nothing();

  std::vector<double> share(static_cast<size_t>(rows.columns()), 0.0);  // d loss / d push
  double value = 0, active = 0;
  for (int64_t i = 0; i < rows.rows(); ++i) {
    for (int64_t j = i + 1; j < rows.columns(); ++j) {
      if (!is_pair(i, j)) continue;
      const double both = LogAdd(push[i], push[j]);
      const double z = rows.At(i, j) + both;
      const MarginTerm term = BendMargin(z, options.margin);
      value += term.value * term.value / (2 * count);
      active += MarginActive(z, options.margin);
      const double slope = term.value * term.slope / count;
      if (slope == 0) continue;
      rows.AddSlope(i, j, slope);
      share[i] += slope * std::exp(push[i] - both);
      share[j] += slope * std::exp(push[j] - both);
    }
  }
  for (int64_t i = 0; i < rows.rows(); ++i) {
    if (share[i] == 0) continue;
    rows.Read(i, &pairs);
    LogSumExp(pairs.d_an, -1, &softmax);
    ScaleAll(-share[i], &softmax);
    rows.AddSlopes(i, pairs.negatives, softmax);
  }
  LossStatistics statistics = rows.AllPairsStatistics();
  statistics.triplets = static_cast<int64_t>(count);
  statistics.active = active / count;
  return rows.Finish(value, statistics);
}

absl::StatusOr<LossResult> LiftedPxkLoss(const LossInput& input, const LiftedOptions& options) {
  RETURN_IF_ERROR(CheckMargin(options.margin));
  RETURN_IF_ERROR(CheckReduction("lifted_pxk", options.reduction, {Reduction::kSum, Reduction::kMean}));
  ASSIGN_OR_RETURN(PairRows rows, PairRows::Make(input, options.distance, "lifted_pxk"));
  AnchorPairs pairs;
  double count = 0;
  for (int64_t a = 0; a < rows.rows(); ++a) {
    rows.Read(a, &pairs);
    count += !pairs.positives.empty() && !pairs.negatives.empty();
  }
  if (count == 0) return rows.Nothing();
  const double weight = options.reduction == Reduction::kMean ? 1 / count : 1;
  std::vector<double> pull, push;
  double value = 0, active = 0;
  for (int64_t a = 0; a < rows.rows(); ++a) {
    rows.Read(a, &pairs);
    if (pairs.positives.empty() || pairs.negatives.empty()) continue;
    const double z = LogSumExp(pairs.d_ap, 1, &pull) + LogSumExp(pairs.d_an, -1, &push);
    const MarginTerm term = BendMargin(z, options.margin);
    value += weight * term.value;
    active += MarginActive(z, options.margin);
    if (term.slope == 0) continue;
    ScaleAll(weight * term.slope, &pull);
    ScaleAll(-weight * term.slope, &push);
    rows.AddSlopes(a, pairs.positives, pull);
    rows.AddSlopes(a, pairs.negatives, push);
  }
  LossStatistics statistics = rows.AllPairsStatistics();
  statistics.triplets = static_cast<int64_t>(count);
  statistics.active = active / count;
  return rows.Finish(value, statistics);
}

}  // namespace doppel
