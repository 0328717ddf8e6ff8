#include "trainer/loss/triplet_loss.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "trainer/loss/kernels/batch_geometry.h"
#include "trainer/loss/pair_rows.h"

namespace doppel {
namespace {

// What the triplets come to, with the slopes of the loss by every pair's distance.
struct TripletTerms {
  double sum = 0;
  int64_t counted = 0, active = 0;
  std::vector<double> ap_slopes, an_slopes;
  std::vector<float> ap_uses, an_uses;  // triplets by pair
};

TripletTerms SumSelected(const TripletSelection& selection, const std::vector<double>& d_ap,
                         const std::vector<double>& d_an, const Margin& margin,
                         const TripletLossOptions& options) {
  TripletTerms terms;
  terms.ap_slopes.resize(d_ap.size());
  terms.an_slopes.resize(d_an.size());
  terms.ap_uses.resize(d_ap.size());
  terms.an_uses.resize(d_an.size());
  for (size_t t = 0; t < selection.ap.size(); ++t) {
    const int64_t p = selection.ap[t], n = selection.an[t];
    const double z = d_ap[p] - d_an[n];
    if (options.guards.hardness_cap > 0 && z > options.guards.hardness_cap) continue;
    const bool active = MarginActive(z, margin);
    ++terms.counted;
    terms.active += active ? 1 : 0;
    terms.ap_uses[p] += 1;
    terms.an_uses[n] += 1;
    if (!active && (options.violating_only || !margin.soft)) continue;
    const MarginTerm term = BendMargin(z, margin);
    terms.sum += term.value;
    terms.ap_slopes[p] += term.slope;
    terms.an_slopes[n] -= term.slope;
  }
  return terms;
}

Percentiles UsedPercentiles(const std::vector<double>& distances, const std::vector<float>& uses) {
  const std::vector<float> values(distances.begin(), distances.end());
  const WeightedValues part = {values.data(), static_cast<int64_t>(values.size()), 1, uses.data()};
  return ComputeWeightedPercentiles({part});
}

LossResult OverSelection(const BatchGeometry& geometry, const TripletSelection& selection,
                         const Margin& margin, const TripletLossOptions& options) {
  const std::vector<double> d_ap = geometry.PairsOf(selection.ap_anchor, selection.ap_positive);
  const std::vector<double> d_an = geometry.PairsOf(selection.an_anchor, selection.an_negative);
  TripletTerms terms = SumSelected(selection, d_ap, d_an, margin, options);
  const bool over_active = options.violating_only || options.mean_over_active;
  const double share =
      1.0 / static_cast<double>(std::max<int64_t>(over_active ? terms.active : terms.counted, 1));
  for (double& slope : terms.ap_slopes) slope *= share;
  for (double& slope : terms.an_slopes) slope *= share;

  LossResult result;
  LossStatistics& statistics = result.statistics;
  statistics.loss = terms.sum * share;
  statistics.triplets = terms.counted;
  if (terms.counted > 0) {
    statistics.active = static_cast<double>(terms.active) / static_cast<double>(terms.counted);
  }
  statistics.d_ap = UsedPercentiles(d_ap, terms.ap_uses);
  statistics.d_an = UsedPercentiles(d_an, terms.an_uses);
  statistics.norm = NormPercentiles(geometry.embeddings());
  result.loss =
      geometry.Loss(statistics.loss, {{selection.ap_anchor, selection.ap_positive, d_ap, terms.ap_slopes},
                                      {selection.an_anchor, selection.an_negative, d_an, terms.an_slopes}});
  return result;
}

TripletSelection SelectFrom(const BatchGeometry& geometry, const BatchPairs& pairs,
                            const TripletSelector& selector, const TripletLossOptions& options,
                            const SelectionContext& context) {
  const SimilarityCap cap = {options.guards.negative_similarity_cap, options.distance,
                             geometry.norms().data()};
  SelectionRun run(selector, pairs, options.guards, context, cap);
  geometry.ForEachRow([&run](int64_t anchor, float* row) { run.Visit(anchor, row); });
  return run.Finish();
}

absl::Status CheckGiven(const std::array<int64_t, 3>& triplet, size_t index, const BatchPairs& pairs) {
  const int64_t a = triplet[0], p = triplet[1], n = triplet[2];
  const auto complain = [&](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat("triplet ", index, " (", a, ", ", p, ", ", n, ") ", what));
  };
  if (a < 0 || a >= pairs.rows()) return complain("has an anchor that is no row of the batch");
  if (p < 0 || p >= pairs.columns() || n < 0 || n >= pairs.columns()) {
    return complain("names a row that neither the batch nor its memory has");
  }
  if (p == a) return complain("has the anchor as its own positive");
  if (pairs.identity(a) != pairs.identity(p)) return complain("has a positive of another identity");
  if (pairs.identity(a) == pairs.identity(n)) return complain("has a negative of the anchor's identity");
  return absl::OkStatus();
}

// Each pair once, with excluded pairs left out.
absl::StatusOr<TripletSelection> ListGiven(const GivenTriplets& triplets, const BatchPairs& pairs) {
  TripletSelection selection;
  absl::flat_hash_map<std::pair<int64_t, int64_t>, int64_t> positive_pairs, negative_pairs;
  for (size_t t = 0; t < triplets.size(); ++t) {
    RETURN_IF_ERROR(CheckGiven(triplets[t], t, pairs));
    const auto [a, p, n] = triplets[t];
    if (pairs.Excluded(a, p) || pairs.Excluded(a, n)) continue;
    const auto [positive, new_positive] =
        positive_pairs.try_emplace({a, p}, static_cast<int64_t>(selection.ap_anchor.size()));
    if (new_positive) selection.AddPositive(a, p, 0);
    const auto [negative, new_negative] =
        negative_pairs.try_emplace({a, n}, static_cast<int64_t>(selection.an_anchor.size()));
    if (new_negative) selection.AddNegative(a, n, 0);
    selection.AddTriplet(positive->second, negative->second);
  }
  return selection;
}

// The guards that selection would have applied.
void DropGuarded(const BatchGeometry& geometry, const TripletLossOptions& options,
                 TripletSelection* selection) {
  const GuardOptions& guards = options.guards;
  if (guards.positive_cap == 0 && guards.negative_similarity_cap == 0) return;
  const SimilarityCap cap = {guards.negative_similarity_cap, options.distance, geometry.norms().data()};
  const std::vector<double> d_ap = geometry.PairsOf(selection->ap_anchor, selection->ap_positive);
  const std::vector<double> d_an = geometry.PairsOf(selection->an_anchor, selection->an_negative);
  size_t kept = 0;
  for (size_t t = 0; t < selection->ap.size(); ++t) {
    const int64_t p = selection->ap[t], n = selection->an[t];
    if (guards.positive_cap > 0 && d_ap[p] > guards.positive_cap) continue;
    if (!cap.Allows(selection->ap_anchor[p], selection->ap_positive[p], d_ap[p], selection->an_negative[n],
                    d_an[n])) {
      continue;
    }
    selection->ap[kept] = p;
    selection->an[kept++] = n;
  }
  selection->ap.resize(kept);
  selection->an.resize(kept);
}

}  // namespace

std::vector<float> ToFloats(const torch::Tensor& values) {
  const torch::Tensor host = values.detach().to(torch::kCPU, torch::kFloat32).contiguous();
  return {host.data_ptr<float>(), host.data_ptr<float>() + host.numel()};
}

Percentiles NormPercentiles(const torch::Tensor& embeddings) {
  torch::NoGradGuard no_grad;
  return ComputePercentiles(ToFloats(embeddings.detach().square().sum(1).sqrt()));
}

absl::Status CheckTripletLossOptions(const TripletLossOptions& options) {
  RETURN_IF_ERROR(CheckMargin(options.margin));
  RETURN_IF_ERROR(CheckMarginSchedule(options.margin, options.schedule));
  RETURN_IF_ERROR(CheckGuards(options.guards));
  if (options.mean_over_active && options.margin.soft) {
    return absl::InvalidArgumentError(
        "a mean over active triplets goes with a hinge margin only (a soft margin is never 0): give a number "
        "as margin");
  }
  return absl::OkStatus();
}

absl::StatusOr<TripletSelection> SelectTriplets(const LossInput& input, const TripletSelector& selector,
                                                const TripletLossOptions& options) {
  ASSIGN_OR_RETURN(const BatchPairs pairs, BatchPairs::Create(input));
  ASSIGN_OR_RETURN(const BatchGeometry geometry, BatchGeometry::Create(input, options.distance));
  return SelectFrom(geometry, pairs, selector, options,
                    {input.step, MarginAt(options.margin, options.schedule, input.step)});
}

absl::StatusOr<LossResult> TripletLoss(const LossInput& input, const TripletSelector& selector,
                                       const TripletLossOptions& options) {
  RETURN_IF_ERROR(CheckTripletLossOptions(options));
  ASSIGN_OR_RETURN(const BatchPairs pairs, BatchPairs::Create(input));
  ASSIGN_OR_RETURN(const BatchGeometry geometry, BatchGeometry::Create(input, options.distance));
  const Margin margin = MarginAt(options.margin, options.schedule, input.step);
  const TripletSelection selection = SelectFrom(geometry, pairs, selector, options, {input.step, margin});
  return OverSelection(geometry, selection, margin, options);
}

absl::StatusOr<LossResult> TripletLoss(const torch::Tensor& embeddings, absl::Span<const int64_t> identities,
                                       const TripletSelector& selector, const TripletLossOptions& options) {
  return TripletLoss(LossInput(embeddings, identities), selector, options);
}

absl::StatusOr<LossResult> GivenTripletLoss(const LossInput& input, const GivenTriplets& triplets,
                                            const TripletLossOptions& options) {
  RETURN_IF_ERROR(CheckTripletLossOptions(options));
  ASSIGN_OR_RETURN(const BatchPairs pairs, BatchPairs::Create(input));
  ASSIGN_OR_RETURN(TripletSelection selection, ListGiven(triplets, pairs));
  ASSIGN_OR_RETURN(const BatchGeometry geometry, BatchGeometry::Create(input, options.distance));
  DropGuarded(geometry, options, &selection);
  return OverSelection(geometry, selection, MarginAt(options.margin, options.schedule, input.step), options);
}

}  // namespace doppel
