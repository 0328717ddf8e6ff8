#pragma once

#include <memory>

#include "trainer/loss/distance.h"
#include "trainer/loss/loss.h"
#include "trainer/loss/margin.h"
#include "trainer/loss/selection/selection.h"

namespace doppel {

struct TripletLossOptions {
  Distance distance = Distance::kEuclidean;
  Margin margin;
  // Mean over the active triplets instead of all selected ones (hinge only: a soft margin is never 0).
  bool mean_over_active = false;
};

// The mean over the selected triplets of margin(d_ap - d_an). Gradients flow through the selected pairs
// alone.
absl::StatusOr<LossResult> TripletLoss(const torch::Tensor& embeddings, absl::Span<const int64_t> identities,
                                       const TripletSelector& selector, const TripletLossOptions& options);

// The same as a Loss.
class TripletLossModule : public Loss {
 public:
  TripletLossModule(std::unique_ptr<TripletSelector> selector, TripletLossOptions options)
      : selector_(std::move(selector)), options_(options) {}
  absl::StatusOr<LossResult> Compute(const LossInput& input) override {
    return TripletLoss(input.embeddings, input.identities, *selector_, options_);
  }
  std::optional<double> CollapsedValue() const override { return CollapsedLoss(options_.margin); }

 private:
  const std::unique_ptr<TripletSelector> selector_;
  const TripletLossOptions options_;
};

// Host copies, for statistics.
std::vector<float> ToFloats(const torch::Tensor& values);
Percentiles NormPercentiles(const torch::Tensor& embeddings);

}  // namespace doppel
