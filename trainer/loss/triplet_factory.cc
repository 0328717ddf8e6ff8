#include "trainer/loss/triplet_factory.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status_macros.h"
#include "trainer/loss/batch_all.h"
#include "trainer/loss/selection/batch_hard.h"
#include "trainer/loss/selection/batch_ohnm.h"
#include "trainer/loss/selection/msml.h"
#include "trainer/loss/selection/random_negatives.h"
#include "trainer/loss/selection/semi_hard.h"
#include "trainer/loss/selection/softmax_sampled.h"
#include "trainer/loss/triplet_loss.h"

namespace doppel {
namespace {

absl::Status CheckPositive(const LossOptions& options, absl::string_view setting, double value) {
  if (value > 0 && std::isfinite(value)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(options.name, ": ", setting, " is ", value, ": it must be above 0"));
}

absl::StatusOr<std::unique_ptr<TripletSelector>> MakeSelector(const LossOptions& options) {
  if (options.name == "batch_hard") return std::make_unique<BatchHardSelector>();
  if (options.name == "msml") return std::make_unique<MsmlSelector>();
  if (options.name == "softmax_sampled") {
    RETURN_IF_ERROR(CheckPositive(options, "temperature", options.temperature));
    return std::make_unique<SoftmaxSampledSelector>(options.temperature, options.seed);
  }
  if (options.name == "semi_hard" || options.name == "semi_hard_random") {
    RETURN_IF_ERROR(CheckPositive(options, "semi_hard_width", options.semi_hard_width));
    const auto choice =
        options.name == "semi_hard" ? SemiHardSelector::Choice::kNearest : SemiHardSelector::Choice::kRandom;
    return std::make_unique<SemiHardSelector>(choice, options.semi_hard_width, options.seed);
  }
  if (options.negatives < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.name, ": ", options.negatives, " negatives per pair: at least 1 is needed"));
  }
  if (options.name == "ohnm")
    return std::make_unique<RandomNegativesSelector>(options.negatives, options.seed);
  if (options.skip < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("batch_ohnm: skip is ", options.skip, ": it must be 0 or more"));
  }
  return std::make_unique<BatchOhnmSelector>(options.negatives, options.skip);
}

}  // namespace

std::vector<std::string> TripletFamilyNames() {
  return {"triplet",   "batch_hard",        "batch_ohnm", "semi_hard", "semi_hard_random",
          "batch_all", "batch_all_nonzero", "msml",       "ohnm",      "softmax_sampled"};
}

absl::StatusOr<std::unique_ptr<Loss>> MakeTripletFamilyLoss(const LossOptions& options) {
  const std::vector<std::string> names = TripletFamilyNames();
  if (std::find(names.begin(), names.end(), options.name) == names.end()) {
    return absl::InvalidArgumentError(absl::StrCat("no loss of the triplet family is called \"", options.name,
                                                   "\": there are ", absl::StrJoin(names, ", ")));
  }
  if (!options.triplets.empty() && options.name != "triplet") {
    return absl::InvalidArgumentError(
        absl::StrCat(options.name, " chooses its triplets itself: given ones go with triplet"));
  }
  TripletLossOptions triplet;
  ASSIGN_OR_RETURN(triplet.distance, ParseDistance(options.distance));
  ASSIGN_OR_RETURN(triplet.margin, ParseMargin(options.margin, options.soft_scale));
  triplet.schedule = {options.margin_start, options.margin_steps};
  triplet.guards = {options.hardness_cap, options.positive_cap, options.negative_similarity_cap};
  triplet.mean_over_active = options.mean_over_active;
  triplet.violating_only = options.name == "ohnm";
  RETURN_IF_ERROR(CheckTripletLossOptions(triplet));
  if (!options.triplets.empty()) {
    return std::make_unique<GivenTripletLossModule>(options.triplets, triplet);
  }
  if (options.name == "triplet" || options.name == "batch_all" || options.name == "batch_all_nonzero") {
    BatchAllOptions all;
    all.distance = triplet.distance;
    all.margin = triplet.margin;
    all.schedule = triplet.schedule;
    all.guards = triplet.guards;
    all.nonzero = triplet.mean_over_active || options.name == "batch_all_nonzero";
    return std::make_unique<BatchAllLossModule>(all);
  }
  ASSIGN_OR_RETURN(std::unique_ptr<TripletSelector> selector, MakeSelector(options));
  return std::make_unique<TripletLossModule>(std::move(selector), triplet);
}

}  // namespace doppel
