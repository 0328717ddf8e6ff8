#include "trainer/loss/kernels/anchor_sums.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace doppel {
namespace {

// Up to so many positives, comparing every negative with all of them beats a search among them.
constexpr size_t kComparedPositives = 48;

}  // namespace

AnchorSums::Totals AnchorSums::Sum(absl::Span<const float> d_ap, absl::Span<const float> negatives,
                                   const Margin& margin, float* weights) {
  const int64_t n = static_cast<int64_t>(negatives.size());
  positive_weights_.assign(d_ap.size(), 0);
  if (!margin.soft) {
    thresholds_.assign(d_ap.begin(), d_ap.end());
    for (float& t : thresholds_) t += static_cast<float>(margin.margin);
    return d_ap.size() <= kComparedPositives ? FewPositives(negatives, weights)
                                             : ManyPositives(negatives, weights);
  }
  std::fill(weights, weights + n, 0.0F);
  unused_.resize(negatives.size());
  Totals totals;
  for (size_t i = 0; i < d_ap.size(); ++i) {
    const RowKernels::Sums sums =
        kernels_.soft_capped(negatives.data(), n, d_ap[i], static_cast<float>(margin.scale),
                             std::numeric_limits<float>::infinity(), weights, unused_.data());
    totals.loss += sums.loss;
    totals.active += sums.active;
    positive_weights_[i] = sums.weight;
  }
  return totals;
}

AnchorSums::Totals AnchorSums::FewPositives(absl::Span<const float> negatives, float* weights) {
  Totals totals;
  active_.resize(thresholds_.size());
  totals.loss = kernels_.hinge(negatives.data(), static_cast<int64_t>(negatives.size()), thresholds_.data(),
                               static_cast<int64_t>(thresholds_.size()), weights, active_.data());
  for (size_t i = 0; i < active_.size(); ++i) {
    totals.active += active_[i];
    positive_weights_[i] = static_cast<double>(active_[i]);
  }
  return totals;
}

AnchorSums::Totals AnchorSums::ManyPositives(absl::Span<const float> negatives, float* weights) {
  const size_t p = thresholds_.size(), n = negatives.size();
  order_.resize(p);
  std::iota(order_.begin(), order_.end(), 0);
  std::sort(order_.begin(), order_.end(),
            [this](int32_t a, int32_t b) { return thresholds_[a] < thresholds_[b]; });
  sorted_.resize(p);
  above_.assign(p + 1, 0);  // sums of the thresholds from each rank on
  for (size_t i = 0; i < p; ++i) sorted_[i] = thresholds_[order_[i]];
  for (size_t i = p; i-- > 0;) above_[i] = above_[i + 1] + sorted_[i];
  ranks_.resize(n);
  kernels_.ranks(negatives.data(), static_cast<int64_t>(n), sorted_.data(), static_cast<int64_t>(p),
                 ranks_.data());
  active_.assign(p + 1, 0);  // negatives by rank
  Totals totals;
  for (size_t j = 0; j < n; ++j) {
    const size_t rank = ranks_[j], count = p - rank;
    weights[j] = static_cast<float>(count);
    ++active_[rank];
    if (count == 0) continue;
    totals.loss += above_[rank] - static_cast<double>(count) * negatives[j];
    totals.active += static_cast<int64_t>(count);
  }
  // A positive is active against the negatives of all ranks up to its own.
  int64_t below = 0;
  for (size_t i = 0; i < p; ++i) {
    below += active_[i];
    positive_weights_[order_[i]] = static_cast<double>(below);
  }
  return totals;
}

}  // namespace doppel
