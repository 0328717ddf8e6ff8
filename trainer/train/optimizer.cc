#include "trainer/train/optimizer.h"

#include <torch/optim/adam.h>
#include <torch/optim/sgd.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

using torch::optim::AdamParamState;
using torch::optim::SGDParamState;

std::string KeyOf(const torch::Tensor& parameter) {
  return c10::guts::to_string(parameter.unsafeGetTensorImpl());
}

// In the parameter's own memory layout: vectorised kernels may round otherwise where layouts differ.
torch::Tensor InLayoutOf(const torch::Tensor& parameter, const torch::Tensor& value) {
  torch::Tensor result = torch::empty_like(parameter, torch::MemoryFormat::Preserve);
  result.copy_(value);
  return result;
}

const torch::Tensor* Find(const NamedTensors& tensors, const std::string& name) {
  for (const auto& [key, value] : tensors) {
    if (key == name) return &value;
  }
  return nullptr;
}

absl::StatusOr<torch::Tensor> Moment(const NamedTensors& state, const std::string& kind,
                                     const std::string& name, const torch::Tensor& parameter) {
  const torch::Tensor* value = Find(state, absl::StrCat(kind, "/", name));
  if (value == nullptr || !value->sizes().equals(parameter.sizes())) {
    return absl::FailedPreconditionError(
        absl::StrCat("the saved optimiser state has no ", kind, " of the right shape for parameter ", name));
  }
  return InLayoutOf(parameter, *value);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Optimizer>> Optimizer::Create(NamedTensors parameters,
                                                             const OptimizerOptions& options) {
  if (options.name != "adam" && options.name != "sgd") {
    return absl::InvalidArgumentError(
        absl::StrCat("no optimiser is called \"", options.name, "\": choose adam or sgd"));
  }
  if (!(options.weight_decay >= 0)) return absl::InvalidArgumentError("weight decay must not be negative");
  if (!(options.momentum >= 0 && options.momentum < 1)) {
    return absl::InvalidArgumentError(absl::StrCat("momentum ", options.momentum, " must lie in [0, 1)"));
  }
  if (!(options.beta1 >= 0 && options.beta1 < 1 && options.beta2 >= 0 && options.beta2 < 1)) {
    return absl::InvalidArgumentError("Adam's betas must lie in [0, 1)");
  }
  if (parameters.empty()) return absl::InvalidArgumentError("there are no parameters to optimise");
  return std::unique_ptr<Optimizer>(new Optimizer(std::move(parameters), options));
}

Optimizer::Optimizer(NamedTensors parameters, OptimizerOptions options)
    : parameters_(std::move(parameters)), options_(std::move(options)) {
  std::vector<torch::Tensor> tensors;
  for (const auto& [name, tensor] : parameters_) tensors.push_back(tensor);
  if (options_.name == "adam") {
    optimizer_ = std::make_unique<torch::optim::Adam>(tensors, torch::optim::AdamOptions(1e-3)
                                                                   .betas({options_.beta1, options_.beta2})
                                                                   .eps(options_.epsilon)
                                                                   .weight_decay(options_.weight_decay));
  } else {
    optimizer_ = std::make_unique<torch::optim::SGD>(
        tensors,
        torch::optim::SGDOptions(1e-3).momentum(options_.momentum).weight_decay(options_.weight_decay));
  }
}

Optimizer::~Optimizer() = default;

void Optimizer::ZeroGrad() {
  for (auto& [name, parameter] : parameters_) parameter.mutable_grad() = torch::Tensor();
}

void Optimizer::ScaleGradients(double factor) {
  torch::NoGradGuard no_grad;
  for (const auto& [name, parameter] : parameters_) {
    if (parameter.grad().defined()) parameter.grad().mul_(factor);
  }
}

double Optimizer::GradNormAndClip(double clip) {
  torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> norms;
  for (const auto& [name, parameter] : parameters_) {
    if (parameter.grad().defined()) norms.push_back(parameter.grad().norm());
  }
  if (norms.empty()) return 0;
  const double total = torch::stack(norms).norm().item<double>();
  if (clip > 0 && total > clip && std::isfinite(total)) {
    for (const auto& [name, parameter] : parameters_) {
      if (parameter.grad().defined()) parameter.grad().mul_(clip / total);
    }
  }
  return total;
}

void Optimizer::Step(double learning_rate) {
  for (auto& group : optimizer_->param_groups()) group.options().set_lr(learning_rate);
  optimizer_->step();
}

NamedTensors Optimizer::State() const {
  torch::NoGradGuard no_grad;
  NamedTensors result;
  const auto& states = optimizer_->state();
  for (const auto& [name, parameter] : parameters_) {
    const auto it = states.find(KeyOf(parameter));
    if (it == states.end()) continue;
    if (options_.name == "adam") {
      const auto& state = static_cast<const AdamParamState&>(*it->second);
      result.emplace_back(absl::StrCat("step/", name), torch::tensor(state.step(), torch::kInt64));
      result.emplace_back(absl::StrCat("exp_avg/", name), state.exp_avg().detach().clone());
      result.emplace_back(absl::StrCat("exp_avg_sq/", name), state.exp_avg_sq().detach().clone());
    } else {
      const auto& state = static_cast<const SGDParamState&>(*it->second);
      if (!state.momentum_buffer().defined()) continue;
      result.emplace_back(absl::StrCat("momentum/", name), state.momentum_buffer().detach().clone());
    }
  }
  return result;
}

absl::Status Optimizer::LoadState(const NamedTensors& saved) {
  torch::NoGradGuard no_grad;
  // The key that marks a parameter as stepped, per kind.
  const std::string mark = options_.name == "adam" ? "step/" : "momentum/";
  const size_t tensors_each = options_.name == "adam" ? 3 : 1;
  auto& states = optimizer_->state();
  size_t used = 0;
  for (const auto& [name, parameter] : parameters_) {
    const torch::Tensor* marked = Find(saved, mark + name);
    if (marked == nullptr) continue;
    if (options_.name == "adam") {
      auto state = std::make_unique<AdamParamState>();
      state->step(marked->item<int64_t>());
      ASSIGN_OR_RETURN(torch::Tensor exp_avg, Moment(saved, "exp_avg", name, parameter));
      ASSIGN_OR_RETURN(torch::Tensor exp_avg_sq, Moment(saved, "exp_avg_sq", name, parameter));
      state->exp_avg(exp_avg);
      state->exp_avg_sq(exp_avg_sq);
      states[KeyOf(parameter)] = std::move(state);
    } else {
      auto state = std::make_unique<SGDParamState>();
      ASSIGN_OR_RETURN(torch::Tensor buffer, Moment(saved, "momentum", name, parameter));
      state->momentum_buffer(buffer);
      states[KeyOf(parameter)] = std::move(state);
    }
    used += tensors_each;
  }
  if (used != saved.size()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the saved optimiser state holds ", saved.size(), " tensors, of which ", used,
                     " fit this ", options_.name, ": it belongs to another network, loss or optimiser"));
  }
  return absl::OkStatus();
}

}  // namespace doppel
