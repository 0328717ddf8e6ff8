#include "trainer/loss/verification.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "trainer/loss/batch_check.h"
#include "trainer/loss/bnneck.h"
#include "trainer/loss/pair_rows.h"

namespace doppel {
namespace {

// What the mask leaves of the mean of `costs`; 0 if it leaves nothing.
torch::Tensor MaskedSum(const torch::Tensor& costs, const torch::Tensor& mask) {
  return costs.masked_fill(mask.logical_not(), 0).sum();
}

}  // namespace

absl::StatusOr<torch::Tensor> VerificationLoss(const LossInput& input, const torch::Tensor& weight,
                                               const torch::Tensor& bias, Reduction reduction) {
  RETURN_IF_ERROR(CheckEmbeddings(input.embeddings, input.identities));
  RETURN_IF_ERROR(CheckReduction("verification", reduction, {Reduction::kMean, Reduction::kBalanced}));
  const torch::Tensor& x = input.embeddings;
  if (x.size(1) != weight.size(1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("embeddings have ", x.size(1), " dimensions, the verification head ", weight.size(1)));
  }
  if (input.excluded.defined() && (input.excluded.dim() != 2 || input.excluded.size(0) != x.size(0) ||
                                   input.excluded.size(1) != x.size(0))) {
    return absl::InvalidArgumentError("the guard mask must be bool [B, B], one row per embedding");
  }
  const torch::Tensor labels =
      at::tensor(at::ArrayRef<int64_t>(input.identities.data(), input.identities.size())).to(x.device());
  const torch::Tensor same = labels.unsqueeze(0) == labels.unsqueeze(1);
  torch::Tensor valid = at::ones_like(same).triu(1);  // each pair once
  if (input.excluded.defined()) valid = valid.logical_and(input.excluded.to(x.device()).logical_not());
  const torch::Tensor positive = valid.logical_and(same), negative = valid.logical_and(same.logical_not());
  const int64_t positives = positive.sum().item<int64_t>(), negatives = negative.sum().item<int64_t>();
  if (x.size(0) < 2) return absl::InvalidArgumentError("verification: one embedding makes no pair");
  if (positives + negatives == 0) return (x * 0).sum();  // the guard mask leaves nothing

  // Only the difference of the two logits matters. Centred, the squares lose fewer digits.
  const auto type = x.scalar_type();
  const torch::Tensor w = weight[0].to(type) - weight[1].to(type);
  const torch::Tensor centred = x - x.detach().mean(0, /*keepdim=*/true);
  const torch::Tensor squares = centred.square().mv(w);
  const torch::Tensor different = squares.unsqueeze(0) + squares.unsqueeze(1) -
                                  2 * (centred * w).mm(centred.t()) + (bias[0].to(type) - bias[1].to(type));
  // -log softmax of the right class.
  const torch::Tensor positive_sum = MaskedSum(at::softplus(different, 1, 40), positive);
  const torch::Tensor negative_sum = MaskedSum(at::softplus(-different, 1, 40), negative);
  if (reduction == Reduction::kMean) {
    return (positive_sum + negative_sum) / static_cast<double>(positives + negatives);
  }
  const double share = positives > 0 && negatives > 0 ? 0.5 : 1.0;
  return positive_sum * (share / std::max<double>(static_cast<double>(positives), 1)) +
         negative_sum * (share / std::max<double>(static_cast<double>(negatives), 1));
}

absl::StatusOr<std::unique_ptr<VerificationLossModule>> VerificationLossModule::Create(
    const VerificationOptions& options) {
  if (options.dimension < 1) {
    return absl::InvalidArgumentError("verification: the dimension must be at least 1");
  }
  RETURN_IF_ERROR(
      CheckReduction("verification", options.reduction, {Reduction::kMean, Reduction::kBalanced}));
  return std::unique_ptr<VerificationLossModule>(new VerificationLossModule(options));
}

VerificationLossModule::VerificationLossModule(const VerificationOptions& options) : options_(options) {
  at::Generator generator = at::detail::createCPUGenerator(options.seed);
  const double deviation = 1.0 / std::sqrt(static_cast<double>(options.dimension));
  weight_ =
      (at::randn({2, options.dimension}, generator, at::TensorOptions()) * deviation).requires_grad_(true);
  bias_ = at::zeros({2}).requires_grad_(true);
}

absl::StatusOr<torch::Tensor> VerificationLossModule::CrossEntropy(const LossInput& input) {
  return VerificationLoss(input, weight_, bias_, options_.reduction);
}

absl::StatusOr<LossResult> VerificationLossModule::Compute(const LossInput& input) {
  if (input.memory.defined() && input.memory.size(0) > 0) {
    return absl::InvalidArgumentError("verification cannot use a cross-batch memory: set memory to 0");
  }
  LossResult result;
  ASSIGN_OR_RETURN(result.loss, CrossEntropy(input));
  ASSIGN_OR_RETURN(result.statistics, WatchHardest(input, options_.distance));
  result.statistics.loss = result.loss.item<double>();
  return result;
}

NamedTensors VerificationLossModule::NamedParameters() { return {{"weight", weight_}, {"bias", bias_}}; }

absl::Status VerificationLossModule::LoadState(const NamedTensors& state) {
  return CopyNamed(state, "verification head", NamedParameters());
}

void VerificationLossModule::To(const torch::Device& device) {
  at::NoGradGuard no_grad;
  weight_ = weight_.detach().to(device).requires_grad_(true);
  bias_ = bias_.detach().to(device).requires_grad_(true);
}

}  // namespace doppel
