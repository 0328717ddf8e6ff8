#include "trainer/train/weight_average.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace doppel {
namespace {

NamedTensors ParametersAndBuffers(Network& network) {
  NamedTensors all = network.NamedParameters();
  for (auto& item : network.NamedBuffers()) all.push_back(std::move(item));
  return all;
}

}  // namespace

WeightAverage::WeightAverage(Network& network, double decay) : decay_(decay) {
  const c10::AutoGradMode no_grad(false);
  for (auto& [name, tensor] : ParametersAndBuffers(network)) {
    torch::Tensor copy = at::empty_like(tensor.detach());
    copy.copy_(tensor);
    pairs_.push_back({name, tensor, copy});
  }
}

void WeightAverage::Update() {
  const c10::AutoGradMode no_grad(false);
  const double t = static_cast<double>(++updates_);
  const double weight = 1 - std::min(decay_, (1 + t) / (10 + t));
  for (Pair& pair : pairs_) {
    if (pair.weight.is_floating_point()) {
      pair.average.lerp_(pair.weight.detach(), weight);
    } else {
      pair.average.copy_(pair.weight);
    }
  }
}

absl::Status WeightAverage::Restore(Network& average, uint64_t updates) {
  const c10::AutoGradMode no_grad(false);
  const NamedTensors saved = ParametersAndBuffers(average);
  bool same = saved.size() == pairs_.size();
  for (size_t i = 0; same && i < saved.size(); ++i) {
    same = saved[i].first == pairs_[i].name && saved[i].second.sizes() == pairs_[i].average.sizes();
  }
  if (!same) {
    return absl::FailedPreconditionError(
        "the saved average of the weights is that of another network than the weights beside it");
  }
  for (size_t i = 0; i < saved.size(); ++i) pairs_[i].average.copy_(saved[i].second);
  updates_ = updates;
  return absl::OkStatus();
}

void WeightAverage::Swap() {
  const c10::AutoGradMode no_grad(false);
  for (Pair& pair : pairs_) {
    torch::Tensor weight = pair.weight.detach();
    const torch::Tensor kept = weight.clone();
    weight.copy_(pair.average);
    pair.average.copy_(kept);
  }
}

}  // namespace doppel
