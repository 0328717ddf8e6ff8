#pragma once

#include <array>
#include <memory>
#include <vector>

#include "trainer/loss/distance.h"
#include "trainer/loss/loss.h"
#include "trainer/loss/margin.h"
#include "trainer/loss/selection/selection.h"

namespace doppel {

struct TripletLossOptions {
  Distance distance = Distance::kEuclidean;
  Margin margin;
  MarginSchedule schedule;
  GuardOptions guards;
  // Mean over the active triplets instead of all selected ones (hinge only: a soft margin is never 0).
  bool mean_over_active = false;
  // OHNM: triplets that are not active do not count at all; with a soft margin, too.
  bool violating_only = false;
};
// INVALID_ARGUMENT names what is wrong.
absl::Status CheckTripletLossOptions(const TripletLossOptions& options);

// The mean over the selected triplets of margin(d_ap - d_an). Gradients flow through the selected pairs
// alone. If the guards leave no triplet, the loss is 0, and so are statistics.triplets and the gradient.
absl::StatusOr<LossResult> TripletLoss(const LossInput& input, const TripletSelector& selector,
                                       const TripletLossOptions& options);
absl::StatusOr<LossResult> TripletLoss(const torch::Tensor& embeddings, absl::Span<const int64_t> identities,
                                       const TripletSelector& selector, const TripletLossOptions& options);

// The same over given (anchor, positive, negative) rows; positives and negatives from B on are memory rows.
// Guards leave triplets out here, too. INVALID_ARGUMENT names a triplet that is none by its identities.
using GivenTriplets = std::vector<std::array<int64_t, 3>>;
absl::StatusOr<LossResult> GivenTripletLoss(const LossInput& input, const GivenTriplets& triplets,
                                            const TripletLossOptions& options);

// What a selector chooses, without the loss. Precondition: CheckTripletLossOptions(options).
absl::StatusOr<TripletSelection> SelectTriplets(const LossInput& input, const TripletSelector& selector,
                                                const TripletLossOptions& options);

// As a Loss.
class TripletLossModule : public Loss {
 public:
  TripletLossModule(std::unique_ptr<TripletSelector> selector, TripletLossOptions options)
      : selector_(std::move(selector)), options_(options) {}
  absl::StatusOr<LossResult> Compute(const LossInput& input) override {
    return TripletLoss(input, *selector_, options_);
  }
  std::optional<double> CollapsedValue() const override { return CollapsedLoss(options_.margin); }

 private:
  const std::unique_ptr<TripletSelector> selector_;
  const TripletLossOptions options_;
};

class GivenTripletLossModule : public Loss {
 public:
  GivenTripletLossModule(GivenTriplets triplets, TripletLossOptions options)
      : triplets_(std::move(triplets)), options_(options) {}
  absl::StatusOr<LossResult> Compute(const LossInput& input) override {
    return GivenTripletLoss(input, triplets_, options_);
  }
  std::optional<double> CollapsedValue() const override { return CollapsedLoss(options_.margin); }

 private:
  const GivenTriplets triplets_;
  const TripletLossOptions options_;
};

// Host copies, for statistics.
std::vector<float> ToFloats(const torch::Tensor& values);
Percentiles NormPercentiles(const torch::Tensor& embeddings);

}  // namespace doppel
