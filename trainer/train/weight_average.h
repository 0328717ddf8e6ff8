#pragma once

#include <torch/types.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "common/model/network.h"
#include "trainer/loss/loss.h"

namespace doppel {

// The exponential moving average of a network's parameters and floating-point buffers:
// average += (1 - d) (weights - average), with d = min(decay, (1 + t) / (10 + t)) after t updates, so that
// the first weights are soon forgotten. Other buffers are copied. Not thread-safe; owns nothing but the
// averages.
class WeightAverage {
 public:
  // Starts as a copy of the weights. 0 < decay < 1. The network must stay where it is (device, layout).
  WeightAverage(Network& network, double decay);

  // After a step.
  void Update();
  uint64_t updates() const { return updates_; }

  // Continues an average that stood at `average` (another network of the same kind) after `updates`.
  // FAILED_PRECONDITION if the networks differ.
  absl::Status Restore(Network& average, uint64_t updates);

  // Exchanges weights and averages, bit for bit: the network is the averaged one until the next call.
  void Swap();

 private:
  struct Pair {
    std::string name;
    torch::Tensor weight;   // the network's
    torch::Tensor average;  // ours, in the same layout
  };
  const double decay_;
  uint64_t updates_ = 0;
  std::vector<Pair> pairs_;
};

// The network is the averaged one while it lives; nullptr changes nothing.
class AveragedWeights {
 public:
  explicit AveragedWeights(WeightAverage* average) : average_(average) {
    if (average_ != nullptr) average_->Swap();
  }
  ~AveragedWeights() {
    if (average_ != nullptr) average_->Swap();
  }
  AveragedWeights(const AveragedWeights&) = delete;
  AveragedWeights& operator=(const AveragedWeights&) = delete;

 private:
  WeightAverage* const average_;
};

}  // namespace doppel
