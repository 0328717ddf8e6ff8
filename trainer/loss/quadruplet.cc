#include "trainer/loss/quadruplet.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "trainer/loss/batch_check.h"
#include "trainer/loss/pair_rows.h"

namespace doppel {
namespace {

struct Quadruplet {
  int64_t a = 0, p = 0, n1 = 0, n2 = 0;
};

// -1: none.
int64_t NearestOfThird(const PairRows& rows, int64_t anchor, int64_t from) {
  int64_t best = -1;
  double nearest = std::numeric_limits<double>::infinity();
  for (int64_t c = 0; c < rows.columns(); ++c) {
    if (rows.SameIdentity(c, anchor) || rows.SameIdentity(c, from) || rows.Excluded(from, c)) continue;
    if (rows.At(from, c) < nearest) {
      nearest = rows.At(from, c);
      best = c;
    }
  }
  return best;
}

std::vector<Quadruplet> SelectHardest(const PairRows& rows) {
  std::vector<Quadruplet> selected;
  selected.reserve(static_cast<size_t>(rows.rows()));
  AnchorPairs pairs;
  for (int64_t a = 0; a < rows.rows(); ++a) {
    rows.Read(a, &pairs);
    if (pairs.positives.empty() || pairs.negatives.empty()) continue;
    Quadruplet q;
    q.a = a;
    q.p = pairs.positives[std::max_element(pairs.d_ap.begin(), pairs.d_ap.end()) - pairs.d_ap.begin()];
    q.n1 = pairs.negatives[std::min_element(pairs.d_an.begin(), pairs.d_an.end()) - pairs.d_an.begin()];
    q.n2 = NearestOfThird(rows, a, q.n1);
    if (q.n2 >= 0) selected.push_back(q);
  }
  return selected;
}

}  // namespace

absl::StatusOr<Margin> QuadrupletBeta(const QuadrupletOptions& options) {
  Margin beta = options.margin;
  if (options.margin.soft) return beta;
  beta.margin = options.beta < 0 ? options.margin.margin / 2 : options.beta;
  if (!(beta.margin < options.margin.margin) && options.margin.margin > 0) {
    return absl::InvalidArgumentError(absl::StrCat("quadruplet: beta is ", beta.margin,
                                                   ": it must be below the margin (alpha), ",
                                                   options.margin.margin));
  }
  return beta;
}

absl::StatusOr<LossResult> QuadrupletLoss(const LossInput& input, const QuadrupletOptions& options) {
  RETURN_IF_ERROR(CheckMargin(options.margin));
  ASSIGN_OR_RETURN(const Margin beta, QuadrupletBeta(options));
  PairRowsUse use;
  use.memory = false;
  ASSIGN_OR_RETURN(PairRows rows, PairRows::Make(input, options.distance, "quadruplet", use));
  const std::vector<Quadruplet> selected = SelectHardest(rows);
  if (selected.empty()) {
    if (GroupByIdentity(input.identities).size() >= 3) return rows.Nothing();  // the guard mask leaves none
    return absl::InvalidArgumentError(
        "quadruplet: the batch has no quadruplet: draw at least P = 3 identities per batch");
  }
  const double count = static_cast<double>(selected.size());
  double value = 0, active = 0;
  std::vector<float> d_ap, d_an;
  d_ap.reserve(selected.size());
  d_an.reserve(selected.size());
  for (const Quadruplet& q : selected) {
    const double ap = rows.At(q.a, q.p), an = rows.At(q.a, q.n1), nn = rows.At(q.n1, q.n2);
    const MarginTerm first = BendMargin(ap - an, options.margin);
    const MarginTerm second = BendMargin(ap - nn, beta);
    value += first.value + second.value;
    active += MarginActive(ap - an, options.margin) + MarginActive(ap - nn, beta);
    rows.AddSlope(q.a, q.p, (first.slope + second.slope) / count);
    rows.AddSlope(q.a, q.n1, -first.slope / count);
    rows.AddSlope(q.n1, q.n2, -second.slope / count);
    d_ap.push_back(static_cast<float>(ap));
    d_an.push_back(static_cast<float>(an));
  }
  LossStatistics statistics;
  statistics.triplets = static_cast<int64_t>(selected.size());
  statistics.active = active / (2 * count);
  statistics.d_ap = ComputePercentiles(std::move(d_ap));
  statistics.d_an = ComputePercentiles(std::move(d_an));
  statistics.norm = rows.Norms();
  return rows.Finish(value / count, statistics);
}

}  // namespace doppel
