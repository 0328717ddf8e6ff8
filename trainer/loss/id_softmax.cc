#include "trainer/loss/id_softmax.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/utils.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "trainer/loss/batch_check.h"
#include "trainer/loss/pair_rows.h"

namespace doppel {
namespace {

torch::Tensor DividedByNorm(const torch::Tensor& x) {
  return x / x.norm(2, 1, true).clamp_min(1e-12).expand_as(x);
}

}  // namespace

torch::Tensor IdSoftmaxLoss(const torch::Tensor& embeddings, const torch::Tensor& targets,
                            const torch::Tensor& weight, const torch::Tensor& bias,
                            const IdSoftmaxOptions& options) {
  const auto type = embeddings.scalar_type();
  torch::Tensor logits;
  if (options.scale > 0) {
    logits = torch::linear(DividedByNorm(embeddings), DividedByNorm(weight.to(type))) * options.scale;
  } else {
    logits = torch::linear(embeddings, weight.to(type), bias.defined() ? bias.to(type) : bias);
  }
  return torch::cross_entropy_loss(logits, targets, /*weight=*/{}, at::Reduction::Mean, /*ignore_index=*/-100,
                                   options.label_smoothing);
}

absl::StatusOr<std::unique_ptr<IdSoftmaxModule>> IdSoftmaxModule::Create(const IdSoftmaxOptions& options) {
  if (options.classes < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("id_softmax was given ", options.classes,
                     " classes: it needs as many as there are identities to tell apart, and at least 2"));
  }
  if (options.dimension < 1)
    return absl::InvalidArgumentError("id_softmax: the dimension must be at least 1");
  if (!(options.scale >= 0 && std::isfinite(options.scale))) {
    return absl::InvalidArgumentError(
        absl::StrCat("id_softmax: scale ", options.scale, " must not be negative"));
  }
  if (!(options.label_smoothing >= 0 && options.label_smoothing < 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("id_softmax: label smoothing ", options.label_smoothing, " must lie in [0, 1)"));
  }
  return std::unique_ptr<IdSoftmaxModule>(new IdSoftmaxModule(options));
}

IdSoftmaxModule::IdSoftmaxModule(const IdSoftmaxOptions& options) : options_(options) {
  at::Generator generator = at::detail::createCPUGenerator(options.seed);
  const double deviation = 1.0 / std::sqrt(static_cast<double>(options.dimension));
  weight_ = torch::randn({options.classes, options.dimension}, generator) * deviation;
  weight_.requires_grad_(true);
  if (options.scale == 0) bias_ = torch::zeros({options.classes}, torch::requires_grad());
}

absl::StatusOr<std::vector<int64_t>> IdSoftmaxModule::Classes(absl::Span<const int64_t> identities) {
  std::vector<int64_t> classes;
  classes.reserve(identities.size());
  for (int64_t identity : identities) {
    const int64_t next = static_cast<int64_t>(identity_of_.size());
    const auto [it, is_new] = class_of_.try_emplace(identity, next);
    if (is_new && next == options_.classes) {
      class_of_.erase(it);
      return absl::FailedPreconditionError(
          absl::StrCat("identity ", identity, " is number ", next + 1,
                       ", but the classification head has room for ", options_.classes,
                       ": raise the number of classes or limit the identities that the plan draws from"));
    }
    if (is_new) identity_of_.push_back(identity);
    classes.push_back(it->second);
  }
  return classes;
}

absl::StatusOr<torch::Tensor> IdSoftmaxModule::CrossEntropy(const torch::Tensor& features,
                                                            absl::Span<const int64_t> identities) {
  RETURN_IF_ERROR(CheckEmbeddings(features, identities));
  if (features.size(1) != options_.dimension) {
    return absl::InvalidArgumentError(absl::StrCat(
        "embeddings have ", features.size(1), " dimensions, the classification head ", options_.dimension));
  }
  ASSIGN_OR_RETURN(const std::vector<int64_t> classes, Classes(identities));
  const torch::Tensor targets = torch::tensor(at::ArrayRef<int64_t>(classes)).to(features.device());
  return IdSoftmaxLoss(features, targets, weight_, bias_, options_);
}

absl::StatusOr<LossResult> IdSoftmaxModule::Compute(const LossInput& input) {
  if (input.memory.defined() && input.memory.size(0) > 0) {
    return absl::InvalidArgumentError("id_softmax cannot use a cross-batch memory: set memory to 0");
  }
  LossResult result;
  ASSIGN_OR_RETURN(result.loss, CrossEntropy(input.embeddings, input.identities));
  ASSIGN_OR_RETURN(result.statistics, WatchHardest(input, options_.distance));
  result.statistics.loss = result.loss.item<double>();
  return result;
}

NamedTensors IdSoftmaxModule::NamedParameters() {
  NamedTensors parameters = {{"weight", weight_}};
  if (bias_.defined()) parameters.emplace_back("bias", bias_);
  return parameters;
}

NamedTensors IdSoftmaxModule::State() {
  NamedTensors state = NamedParameters();
  state.emplace_back("classes", torch::tensor(at::ArrayRef<int64_t>(identity_of_), torch::kInt64));
  return state;
}

absl::Status IdSoftmaxModule::LoadState(const NamedTensors& state) {
  torch::NoGradGuard no_grad;
  bool has_classes = false;
  size_t found = 0;
  for (const auto& [name, value] : state) {
    if (name == "classes") {
      const torch::Tensor host = value.to(torch::kCPU, torch::kInt64).contiguous();
      if (host.numel() > options_.classes) {
        return absl::FailedPreconditionError(absl::StrCat(
            "the saved head knows ", host.numel(), " identities, this one has room for ", options_.classes));
      }
      identity_of_.assign(host.data_ptr<int64_t>(), host.data_ptr<int64_t>() + host.numel());
      class_of_.clear();
      for (size_t i = 0; i < identity_of_.size(); ++i) class_of_[identity_of_[i]] = static_cast<int64_t>(i);
      has_classes = true;
      continue;
    }
    for (auto& [own_name, own] : NamedParameters()) {
      if (own_name != name) continue;
      if (!own.sizes().equals(value.sizes())) {
        return absl::FailedPreconditionError(absl::StrCat("the saved classification head's ", name,
                                                          " has another shape than the one configured"));
      }
      own.copy_(value);
      ++found;
    }
  }
  if (!has_classes || found != NamedParameters().size()) {
    return absl::DataLossError(
        "the saved loss state is not that of this id_softmax head: parts of it are missing");
  }
  return absl::OkStatus();
}

void IdSoftmaxModule::To(const torch::Device& device) {
  torch::NoGradGuard no_grad;
  weight_ = weight_.detach().to(device).requires_grad_(true);
  if (bias_.defined()) bias_ = bias_.detach().to(device).requires_grad_(true);
}

}  // namespace doppel
