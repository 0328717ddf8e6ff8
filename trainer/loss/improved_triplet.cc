#include "trainer/loss/improved_triplet.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "trainer/loss/anchor_triplets.h"
#include "trainer/loss/pair_rows.h"

namespace doppel {
namespace {

struct ImprovedSums {
  double value = 0, active = 0, triplets = 0;
};

void KeepHardest(AnchorPairs* pairs) {
  if (pairs->positives.empty() || pairs->negatives.empty()) return;
  const auto p = std::max_element(pairs->d_ap.begin(), pairs->d_ap.end()) - pairs->d_ap.begin();
  const auto n = std::min_element(pairs->d_an.begin(), pairs->d_an.end()) - pairs->d_an.begin();
  pairs->positives = {pairs->positives[p]};
  pairs->d_ap = {pairs->d_ap[p]};
  pairs->negatives = {pairs->negatives[n]};
  pairs->d_an = {pairs->d_an[n]};
}

ImprovedSums SumOverBatch(const ImprovedTripletOptions& options, PairRows* rows) {
  AnchorPairs pairs;
  const auto read = [&](int64_t a) {
    rows->Read(a, &pairs);
    if (options.hardest) KeepHardest(&pairs);
    return !pairs.positives.empty() && !pairs.negatives.empty();
  };
  ImprovedSums total;
  for (int64_t a = 0; a < rows->rows(); ++a) {
    if (read(a)) total.triplets += static_cast<double>(pairs.positives.size() * pairs.negatives.size());
  }
  TripletSums sums;
  for (int64_t a = 0; a < rows->rows(); ++a) {
    if (!read(a)) continue;
    SumTriplets(pairs.d_ap, pairs.d_an, options.margin, &sums);
    const double pulls = options.pull * static_cast<double>(pairs.negatives.size());
    total.value += sums.value;
    total.active += sums.active;
    for (size_t p = 0; p < pairs.d_ap.size(); ++p) {
      total.value += pulls * pairs.d_ap[p];
      sums.d_ap[p] = (sums.d_ap[p] + pulls) / total.triplets;
    }
    for (double& slope : sums.d_an) slope /= total.triplets;
    rows->AddSlopes(a, pairs.positives, sums.d_ap);
    rows->AddSlopes(a, pairs.negatives, sums.d_an);
  }
  return total;
}

absl::StatusOr<ImprovedSums> SumOverGiven(const ImprovedTripletOptions& options, PairRows* rows) {
  ImprovedSums total;
  total.triplets = static_cast<double>(options.triplets.size());
  for (size_t i = 0; i < options.triplets.size(); ++i) {
    const auto& [a, p, n] = options.triplets[i];
    if (!rows->IsTriplet(a, p, n)) {
      return absl::InvalidArgumentError(
          absl::StrCat("improved_triplet: triplet ", i, " (", a, ", ", p, ", ", n,
                       ") is not an anchor, another row of its identity, and a row of another one, among ",
                       rows->rows(), " rows"));
    }
    const double d_ap = rows->At(a, p), d_an = rows->At(a, n);
    const MarginTerm term = BendMargin(d_ap - d_an, options.margin);
    total.value += options.pull * d_ap + term.value;
    total.active += MarginActive(d_ap - d_an, options.margin);
    rows->AddSlope(a, p, (options.pull + term.slope) / total.triplets);
    rows->AddSlope(a, n, -term.slope / total.triplets);
  }
  return total;
}

}  // namespace

absl::StatusOr<LossResult> ImprovedTripletLoss(const LossInput& input,
                                               const ImprovedTripletOptions& options) {
  RETURN_IF_ERROR(CheckMargin(options.margin));
  if (!(options.pull >= 0 && std::isfinite(options.pull))) {
    return absl::InvalidArgumentError(
        absl::StrCat("improved_triplet: pull is ", options.pull, ": it must not be negative"));
  }
  ASSIGN_OR_RETURN(PairRows rows, PairRows::Make(input, options.distance, "improved_triplet"));
  ImprovedSums total;
  if (!options.triplets.empty()) {
    ASSIGN_OR_RETURN(total, SumOverGiven(options, &rows));
  } else {
    total = SumOverBatch(options, &rows);
  }
  if (total.triplets == 0) return rows.Nothing();
  LossStatistics statistics = rows.AllPairsStatistics();
  statistics.triplets = static_cast<int64_t>(total.triplets);
  statistics.active = total.active / total.triplets;
  return rows.Finish(total.value / total.triplets, statistics);
}

}  // namespace doppel
