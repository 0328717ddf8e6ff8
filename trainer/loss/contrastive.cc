#include "trainer/loss/contrastive.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "trainer/loss/pair_rows.h"

namespace doppel {
namespace {

struct PairCounts {
  double positives = 0, negatives = 0;
  double costly_positives = 0, costly_negatives = 0;
  double active = 0, watched = 0;
};

struct PairCost {
  double value = 0, slope = 0;  // by the distance
};

PairCost Cost(double d, bool is_positive, const ContrastiveOptions& options) {
  if (is_positive) return options.power == 1 ? PairCost{d, 1} : PairCost{d * d, 2 * d};
  const MarginTerm push = BendMargin(-d, options.margin);
  if (options.power == 1) return {push.value, -push.slope};
  return {push.value * push.value, -2 * push.value * push.slope};
}

// Calls visit(row, column, is_positive) for every pair, each once.
template <typename Visit>
void ForEachPair(const PairRows& rows, Visit visit) {
  for (int64_t row = 0; row < rows.rows(); ++row) {
    for (int64_t c = row + 1; c < rows.columns(); ++c) {
      if (!rows.Excluded(row, c)) visit(row, c, rows.SameIdentity(row, c));
    }
  }
}

PairCounts Count(const PairRows& rows, const ContrastiveOptions& options) {
  PairCounts counts;
  ForEachPair(rows, [&](int64_t row, int64_t c, bool is_positive) {
    const bool costs = Cost(rows.At(row, c), is_positive, options).value > 0;
    (is_positive ? counts.positives : counts.negatives) += 1;
    if (costs) (is_positive ? counts.costly_positives : counts.costly_negatives) += 1;
  });
  if (!options.margin.soft) {
    counts.active = counts.costly_negatives;
    counts.watched = counts.negatives;
    return counts;
  }
  AnchorPairs pairs;
  for (int64_t a = 0; a < rows.rows(); ++a) {
    rows.Read(a, &pairs);
    if (pairs.positives.empty()) continue;
    const double farthest = *std::max_element(pairs.d_ap.begin(), pairs.d_ap.end());
    for (const double d : pairs.d_an) counts.active += d < farthest;
    counts.watched += static_cast<double>(pairs.d_an.size());
  }
  return counts;
}

}  // namespace

absl::StatusOr<LossResult> ContrastiveLoss(const LossInput& input, const ContrastiveOptions& options) {
  RETURN_IF_ERROR(CheckMargin(options.margin));
  RETURN_IF_ERROR(CheckReduction("contrastive", options.reduction,
                                 {Reduction::kMean, Reduction::kBalanced, Reduction::kNonzero}));
  if (options.power != 1 && options.power != 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("contrastive: power is ", options.power, ": it must be 1 or 2"));
  }
  PairRowsUse use;
  use.needs_triplets = false;
  ASSIGN_OR_RETURN(PairRows rows, PairRows::Make(input, options.distance, "contrastive", use));
  const PairCounts counts = Count(rows, options);
  if (rows.columns() < 2) return absl::InvalidArgumentError("contrastive: one embedding makes no pair");
  if (counts.positives + counts.negatives == 0) return rows.Nothing();

  double positive_weight = 1 / (counts.positives + counts.negatives);
  double negative_weight = positive_weight;
  if (options.reduction == Reduction::kBalanced) {
    positive_weight = 1 / std::max(counts.positives, 1.0);
    negative_weight = 1 / std::max(counts.negatives, 1.0);
  } else if (options.reduction == Reduction::kNonzero) {
    positive_weight = 1 / std::max(counts.costly_positives, 1.0);
    negative_weight = 1 / std::max(counts.costly_negatives, 1.0);
  }
  double positive_sum = 0, negative_sum = 0;
  ForEachPair(rows, [&](int64_t row, int64_t c, bool is_positive) {
    const PairCost cost = Cost(rows.At(row, c), is_positive, options);
    (is_positive ? positive_sum : negative_sum) += cost.value;
    rows.AddSlope(row, c, cost.slope * (is_positive ? positive_weight : negative_weight));
  });
  LossStatistics statistics = rows.AllPairsStatistics();
  statistics.triplets = static_cast<int64_t>(counts.positives + counts.negatives);
  statistics.active = counts.watched > 0 ? counts.active / counts.watched : 0;
  return rows.Finish(positive_sum * positive_weight + negative_sum * negative_weight, statistics);
}

}  // namespace doppel
