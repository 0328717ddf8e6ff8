#include "trainer/loss/lmnn.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "trainer/loss/anchor_triplets.h"
#include "trainer/loss/pair_rows.h"

namespace doppel {
namespace {

// Leaves the nearest `keep` positives, in rising order of distance.
void KeepTargets(size_t keep, AnchorPairs* pairs) {
  std::vector<size_t> order(pairs->positives.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return pairs->d_ap[a] < pairs->d_ap[b]; });
  order.resize(std::min(keep, order.size()));
  std::vector<int64_t> positives;
  std::vector<double> d_ap;
  positives.reserve(order.size());
  d_ap.reserve(order.size());
  for (const size_t i : order) {
    positives.push_back(pairs->positives[i]);
    d_ap.push_back(pairs->d_ap[i]);
  }
  pairs->positives = std::move(positives);
  pairs->d_ap = std::move(d_ap);
}

void Scale(double factor, std::vector<double>* values) {
  for (double& value : *values) value *= factor;
}

}  // namespace

absl::Status CheckLmnnOptions(const LmnnOptions& options) {
  RETURN_IF_ERROR(CheckMargin(options.margin));
  RETURN_IF_ERROR(CheckReduction("lmnn", options.reduction, {Reduction::kSum, Reduction::kMean}));
  if (options.target_neighbours < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("lmnn: target_neighbours is ", options.target_neighbours, ": at least 1 is needed"));
  }
  if (!(options.push >= 0 && options.push <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat("lmnn: mu is ", options.push, ": it must lie in [0, 1]"));
  }
  return absl::OkStatus();
}

absl::StatusOr<LossResult> LmnnLoss(const LossInput& input, const LmnnOptions& options) {
  RETURN_IF_ERROR(CheckLmnnOptions(options));
  ASSIGN_OR_RETURN(PairRows rows, PairRows::Make(input, options.distance, "lmnn"));
  const size_t keep = static_cast<size_t>(options.target_neighbours);
  AnchorPairs pairs;
  double targets = 0, triplets = 0;
  for (int64_t a = 0; a < rows.rows(); ++a) {
    rows.Read(a, &pairs);
    const double kept = static_cast<double>(std::min(keep, pairs.positives.size()));
    targets += kept;
    triplets += kept * static_cast<double>(pairs.negatives.size());
  }
  if (triplets == 0) return rows.Nothing();

  const bool mean = options.reduction == Reduction::kMean;
  const double pull_weight = (1 - options.push) / (mean ? targets : 1);
  const double push_weight = options.push / (mean ? triplets : 1);
  double pull = 0, push = 0, active = 0;
  TripletSums sums;
  for (int64_t a = 0; a < rows.rows(); ++a) {
    rows.Read(a, &pairs);
    if (pairs.positives.empty()) continue;
    KeepTargets(keep, &pairs);
    SumTriplets(pairs.d_ap, pairs.d_an, options.margin, &sums);
    pull += std::accumulate(pairs.d_ap.begin(), pairs.d_ap.end(), 0.0);
    push += sums.value;
    active += sums.active;
    Scale(push_weight, &sums.d_ap);
    Scale(push_weight, &sums.d_an);
    for (double& slope : sums.d_ap) slope += pull_weight;
    rows.AddSlopes(a, pairs.positives, sums.d_ap);
    rows.AddSlopes(a, pairs.negatives, sums.d_an);
  }
  LossStatistics statistics = rows.AllPairsStatistics();
  statistics.triplets = static_cast<int64_t>(triplets);
  statistics.active = active / triplets;
  return rows.Finish(pull_weight * pull + push_weight * push, statistics);
}

}  // namespace doppel
