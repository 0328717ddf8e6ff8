#include "trainer/loss/selection/selection.h"

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "trainer/loss/kernels/row_kernels.h"

namespace doppel {

int64_t TripletSelection::AddPositive(int64_t anchor, int64_t positive, float distance) {
  ap_anchor.push_back(anchor);
  ap_positive.push_back(positive);
  ap_distance.push_back(distance);
  return static_cast<int64_t>(ap_anchor.size()) - 1;
}

int64_t TripletSelection::AddNegative(int64_t anchor, int64_t negative, float distance) {
  an_anchor.push_back(anchor);
  an_negative.push_back(negative);
  an_distance.push_back(distance);
  return static_cast<int64_t>(an_anchor.size()) - 1;
}

absl::Status CheckGuards(const GuardOptions& guards) {
  for (const auto& [name, value] :
       {std::pair{"hardness cap", guards.hardness_cap}, std::pair{"positive cap", guards.positive_cap},
        std::pair{"negative similarity cap", guards.negative_similarity_cap}}) {
    if (value >= 0 && std::isfinite(value)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("the ", name, " is ", value, ": it must be above 0, or 0 for none"));
  }
  return absl::OkStatus();
}

double SimilarityCap::Cosine(int64_t anchor, int64_t column, double d) const {
  if (distance == Distance::kCosine) return 1.0 - d;
  const double a = norms[anchor], c = norms[column];
  return (a * a + c * c - (distance == Distance::kEuclidean ? d * d : d)) / (2 * a * c);
}

void SimilarityCap::Apply(int64_t anchor, int64_t positive, float d_ap, absl::Span<const float> row,
                          std::vector<float>* kept) const {
  kept->resize(row.size());
  const bool cosine = distance == Distance::kCosine;
  BestRowKernels().drop_similar(row.data(), cosine ? 0 : norms[anchor], cosine ? nullptr : norms,
                                distance == Distance::kEuclidean,
                                static_cast<float>(share * Cosine(anchor, positive, d_ap)), kept->data(),
                                static_cast<int64_t>(row.size()));
}

bool SimilarityCap::Allows(int64_t anchor, int64_t positive, double d_ap, int64_t negative,
                           double d_an) const {
  return share == 0 || Cosine(anchor, negative, d_an) <= share * Cosine(anchor, positive, d_ap);
}

absl::Span<const float> AnchorRow::NegativesFor(size_t i) const {
  if (same_negatives()) return negatives;
  cap_.Apply(anchor, positives[i], d_ap[i], negatives, &kept_);
  return kept_;
}

void SelectionRun::Visit(int64_t anchor, float* row) {
  pairs_.Positives(anchor, &positives_);
  d_ap_.clear();
  size_t kept = 0;
  for (const int32_t p : positives_) {
    if (guards_.positive_cap > 0 && row[p] > guards_.positive_cap) continue;
    positives_[kept++] = p;
    d_ap_.push_back(row[p]);
  }
  positives_.resize(kept);
  if (positives_.empty() && !selector_.WantsLoneAnchors()) return;
  pairs_.Blocked(anchor, &blocked_);
  if (static_cast<int64_t>(blocked_.size()) == pairs_.columns()) return;
  for (const int32_t column : blocked_) row[column] = std::numeric_limits<float>::infinity();
  selector_.Select(AnchorRow(anchor, positives_, d_ap_, {row, static_cast<size_t>(pairs_.columns())}, cap_),
                   context_, &selection_);
}

TripletSelection SelectionRun::Finish() {
  selector_.Finish(&selection_);
  return std::move(selection_);
}

}  // namespace doppel
