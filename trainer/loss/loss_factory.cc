#include "trainer/loss/loss_factory.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status_macros.h"
#include "trainer/loss/id_softmax.h"
#include "trainer/loss/selection/batch_hard.h"
#include "trainer/loss/selection/batch_ohnm.h"
#include "trainer/loss/triplet_loss.h"

namespace doppel {

absl::Status Loss::LoadState(const NamedTensors& state) {
  if (state.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "the saved state is that of a loss with a head of its own, which this loss does not have");
}

std::vector<std::string> LossNames() { return {"batch_hard", "batch_ohnm", "id_softmax"}; }

absl::StatusOr<std::unique_ptr<Loss>> MakeLoss(const LossOptions& options) {
  ASSIGN_OR_RETURN(const Distance distance, ParseDistance(options.distance));
  if (options.name == "id_softmax") {
    IdSoftmaxOptions softmax;
    softmax.classes = options.classes;
    softmax.dimension = options.dimension;
    softmax.scale = options.softmax_scale;
    softmax.label_smoothing = options.label_smoothing;
    softmax.seed = options.seed;
    softmax.distance = distance;
    return IdSoftmaxModule::Create(softmax);
  }
  TripletLossOptions triplet;
  triplet.distance = distance;
  triplet.mean_over_active = options.mean_over_active;
  ASSIGN_OR_RETURN(triplet.margin, ParseMargin(options.margin, options.soft_scale));
  if (triplet.mean_over_active && triplet.margin.soft) {
    return absl::InvalidArgumentError(
        "a mean over active triplets goes with a hinge margin only (a soft margin is never 0): give a number "
        "as margin");
  }
  if (options.name == "batch_hard") {
    return std::make_unique<TripletLossModule>(std::make_unique<BatchHardSelector>(), triplet);
  }
  if (options.name == "batch_ohnm") {
    if (options.negatives < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("batch_ohnm: ", options.negatives, " negatives per pair: at least 1 is needed"));
    }
    if (options.skip < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("batch_ohnm: skip is ", options.skip, ": it must be 0 or more"));
    }
    return std::make_unique<TripletLossModule>(
        std::make_unique<BatchOhnmSelector>(options.negatives, options.skip), triplet);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("no loss is called \"", options.name, "\": there are ", absl::StrJoin(LossNames(), ", ")));
}

}  // namespace doppel
