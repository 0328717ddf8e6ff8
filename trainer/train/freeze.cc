#include "trainer/train/freeze.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace doppel {
namespace {

std::string LayerOf(const std::string& parameter) {
  const size_t dot = parameter.rfind('.');
  return dot == std::string::npos ? parameter : parameter.substr(0, dot + 1);
}

// The layers' names, for messages.
std::string Layers(Network& network) {
  std::vector<std::string> layers;
  for (const auto& [name, parameter] : network.NamedParameters()) {
    const std::string layer = LayerOf(name);
    if (layers.empty() || layers.back() != layer) layers.push_back(layer);
  }
  constexpr size_t kShown = 12;
  const bool cut = layers.size() > kShown;
  if (cut) layers.erase(layers.begin() + kShown - 1, layers.end() - 1);
  return absl::StrJoin(layers, ", ");
}

}  // namespace

absl::Status FreezeParameters(Network& network, const std::vector<std::string>& prefixes) {
  auto parameters = network.NamedParameters();
  for (const std::string& prefix : prefixes) {
    size_t fitting = 0;
    for (auto& [name, parameter] : parameters) {
      if (!absl::StartsWith(name, prefix)) continue;
      parameter.set_requires_grad(false);
      ++fitting;
    }
    if (fitting == 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--freeze ", prefix, " fits no parameter of the network; its layers are ", Layers(network)));
    }
  }
  const bool any = std::any_of(parameters.begin(), parameters.end(),
                               [](const auto& item) { return item.second.requires_grad(); });
  if (any) return absl::OkStatus();
  return absl::InvalidArgumentError("--freeze leaves no parameter of the network to train");
}

absl::StatusOr<FreezeStage> FreezeStage::Create(Network& network, uint64_t steps, const std::string& head) {
  const auto parameters = network.NamedParameters();
  if (parameters.empty()) return absl::InvalidArgumentError("the network has no parameters to freeze");
  const std::string prefix = head.empty() ? LayerOf(parameters.back().first) : head;
  std::vector<torch::Tensor> body;
  size_t trained = 0;
  for (const auto& [name, parameter] : parameters) {
    if (!parameter.requires_grad()) continue;
    if (absl::StartsWith(name, prefix)) {
      ++trained;
    } else {
      body.push_back(parameter);
    }
  }
  if (trained == 0 || body.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--freeze-steps: the head \"", prefix, "\" holds ", trained == 0 ? "no" : "every",
        " parameter that is to be trained; name it with --head (layers: ", Layers(network), ")"));
  }
  return FreezeStage(steps, std::move(body));
}

void FreezeStage::Apply(uint64_t steps_done) {
  const bool train = steps_done >= steps_;
  if (body_.front().requires_grad() == train) return;
  for (torch::Tensor& parameter : body_) parameter.set_requires_grad(train);
}

}  // namespace doppel
