#include "trainer/loss/joint.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

absl::Status CheckWeight(absl::string_view key, double weight) {
  if (weight >= 0 && std::isfinite(weight)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("joint: ", key, " is ", weight, ": it must not be negative"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<JointLoss>> JointLoss::Create(JointParts parts, const JointWeights& weights) {
  RETURN_IF_ERROR(CheckWeight("metric_weight", weights.metric));
  RETURN_IF_ERROR(CheckWeight("id_weight", weights.id));
  RETURN_IF_ERROR(CheckWeight("attribute_weight", weights.attribute));
  RETURN_IF_ERROR(CheckWeight("verification_weight", weights.verification));
  if (parts.metric == nullptr) return absl::InvalidArgumentError("joint: there is no metric loss");
  if (parts.id == nullptr && parts.attribute == nullptr && parts.verification == nullptr) {
    return absl::InvalidArgumentError(
        "joint: there is nothing beside the metric loss: set id_weight, attribute_weight or "
        "verification_weight above 0");
  }
  return std::unique_ptr<JointLoss>(new JointLoss(std::move(parts), weights));
}

absl::StatusOr<LossResult> JointLoss::Compute(const LossInput& input) {
  ASSIGN_OR_RETURN(LossResult result, parts_.metric->Compute(input));
  result.loss = result.loss * weights_.metric;
  torch::Tensor features = input.embeddings;
  if (parts_.bnneck.has_value() && (parts_.id != nullptr || parts_.attribute != nullptr)) {
    ASSIGN_OR_RETURN(features, parts_.bnneck->Forward(input.embeddings));
  }
  if (parts_.id != nullptr) {
    ASSIGN_OR_RETURN(const torch::Tensor id, parts_.id->CrossEntropy(features, input.identities));
    result.loss = result.loss + id * weights_.id;
  }
  if (parts_.attribute != nullptr) {
    ASSIGN_OR_RETURN(const torch::Tensor attribute,
                     parts_.attribute->CrossEntropy(features, input.identities));
    result.loss = result.loss + attribute * weights_.attribute;
  }
  if (parts_.verification != nullptr) {
    ASSIGN_OR_RETURN(const torch::Tensor verification, parts_.verification->CrossEntropy(input));
    result.loss = result.loss + verification * weights_.verification;
  }
  result.statistics.loss = result.loss.item<double>();
  return result;
}

NamedTensors JointLoss::NamedParameters() {
  NamedTensors all;
  AppendPrefixed("metric.", parts_.metric->NamedParameters(), &all);
  if (parts_.bnneck.has_value()) AppendPrefixed("", parts_.bnneck->NamedParameters(), &all);
  if (parts_.id != nullptr) AppendPrefixed("id.", parts_.id->NamedParameters(), &all);
  if (parts_.attribute != nullptr) AppendPrefixed("attribute.", parts_.attribute->NamedParameters(), &all);
  if (parts_.verification != nullptr) {
    AppendPrefixed("verification.", parts_.verification->NamedParameters(), &all);
  }
  return all;
}

NamedTensors JointLoss::State() {
  NamedTensors all;
  AppendPrefixed("metric.", parts_.metric->State(), &all);
  if (parts_.bnneck.has_value()) AppendPrefixed("", parts_.bnneck->State(), &all);
  if (parts_.id != nullptr) AppendPrefixed("id.", parts_.id->State(), &all);
  if (parts_.attribute != nullptr) AppendPrefixed("attribute.", parts_.attribute->State(), &all);
  if (parts_.verification != nullptr) AppendPrefixed("verification.", parts_.verification->State(), &all);
  return all;
}

absl::Status JointLoss::LoadState(const NamedTensors& state) {
  RETURN_IF_ERROR(parts_.metric->LoadState(WithoutPrefix(state, "metric.")));
  if (parts_.bnneck.has_value()) RETURN_IF_ERROR(CopyNamed(state, "BNNeck", parts_.bnneck->State()));
  if (parts_.id != nullptr) RETURN_IF_ERROR(parts_.id->LoadState(WithoutPrefix(state, "id.")));
  if (parts_.attribute != nullptr) {
    RETURN_IF_ERROR(parts_.attribute->LoadState(WithoutPrefix(state, "attribute.")));
  }
  if (parts_.verification != nullptr) {
    RETURN_IF_ERROR(parts_.verification->LoadState(WithoutPrefix(state, "verification.")));
  }
  return absl::OkStatus();
}

void JointLoss::To(const torch::Device& device) {
  parts_.metric->To(device);
  if (parts_.bnneck.has_value()) parts_.bnneck->To(device);
  if (parts_.id != nullptr) parts_.id->To(device);
  if (parts_.attribute != nullptr) parts_.attribute->To(device);
  if (parts_.verification != nullptr) parts_.verification->To(device);
}

}  // namespace doppel
