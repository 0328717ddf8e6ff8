#include "trainer/loss/bnneck.h"

#include <ATen/ATen.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace doppel {

absl::StatusOr<BnNeck> BnNeck::Create(const BnNeckOptions& options) {
  if (options.dimension < 1) return absl::InvalidArgumentError("bnneck: the dimension must be at least 1");
  if (!(options.momentum > 0 && options.momentum <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("bnneck: momentum ", options.momentum, " must lie in (0, 1]"));
  }
  return BnNeck(options);
}

BnNeck::BnNeck(const BnNeckOptions& options)
    : options_(options),
      weight_(at::ones({options.dimension}).requires_grad_(true)),
      mean_(at::zeros({options.dimension})),
      variance_(at::ones({options.dimension})) {}

absl::StatusOr<torch::Tensor> BnNeck::Forward(const torch::Tensor& embeddings) {
  if (embeddings.dim() != 2 || embeddings.size(1) != options_.dimension) {
    return absl::InvalidArgumentError(absl::StrCat("embeddings have ",
                                                   embeddings.dim() == 2 ? embeddings.size(1) : 0,
                                                   " dimensions, the BNNeck ", options_.dimension));
  }
  if (embeddings.size(0) < 2) {
    return absl::InvalidArgumentError("the BNNeck needs at least 2 embeddings to normalise over");
  }
  const auto type = embeddings.scalar_type();
  // Running statistics in the type of the batch, as at::batch_norm wants them; back in float32 afterwards.
  torch::Tensor mean = mean_.to(type), variance = variance_.to(type);
  const torch::Tensor normed = at::batch_norm(embeddings, weight_.to(type), {}, mean, variance,
                                              /*training=*/true, options_.momentum, options_.epsilon,
                                              /*cudnn_enabled=*/false);
  at::NoGradGuard no_grad;
  mean_ = mean.to(torch::kFloat32);
  variance_ = variance.to(torch::kFloat32);
  return normed;
}

torch::Tensor BnNeck::Apply(const torch::Tensor& embeddings) const {
  const auto type = embeddings.scalar_type();
  return at::batch_norm(embeddings, weight_.detach().to(type), {}, mean_.to(type), variance_.to(type),
                        /*training=*/false, options_.momentum, options_.epsilon, /*cudnn_enabled=*/false);
}

NamedTensors BnNeck::NamedParameters() { return {{"bnneck_weight", weight_}}; }

NamedTensors BnNeck::State() {
  return {{"bnneck_weight", weight_}, {"bnneck_mean", mean_}, {"bnneck_variance", variance_}};
}

void BnNeck::To(const torch::Device& device) {
  at::NoGradGuard no_grad;
  weight_ = weight_.detach().to(device).requires_grad_(true);
  mean_ = mean_.to(device);
  variance_ = variance_.to(device);
}

absl::Status CopyNamed(const NamedTensors& state, absl::string_view what, const NamedTensors& own) {
  at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : own) {
    const torch::Tensor* saved = nullptr;
    for (const auto& [saved_name, value] : state) {
      if (saved_name == name) saved = &value;
    }
    if (saved == nullptr) {
      return absl::DataLossError(
          absl::StrCat("the saved loss state is not that of this ", what, ": it has no ", name));
    }
    if (!saved->sizes().equals(tensor.sizes())) {
      return absl::FailedPreconditionError(
          absl::StrCat("the saved ", what, "'s ", name, " has another shape than the one configured"));
    }
    tensor.copy_(*saved);
  }
  return absl::OkStatus();
}

NamedTensors WithoutPrefix(const NamedTensors& tensors, absl::string_view prefix) {
  NamedTensors result;
  for (const auto& [name, tensor] : tensors) {
    if (absl::StartsWith(name, prefix)) result.emplace_back(name.substr(prefix.size()), tensor);
  }
  return result;
}

void AppendPrefixed(absl::string_view prefix, const NamedTensors& tensors, NamedTensors* all) {
  all->reserve(all->size() + tensors.size());
  for (const auto& [name, tensor] : tensors) all->emplace_back(absl::StrCat(prefix, name), tensor);
}

}  // namespace doppel
