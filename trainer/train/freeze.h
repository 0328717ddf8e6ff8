#pragma once

#include <torch/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/model/network.h"

namespace doppel {

// Frozen parameters get no gradient and are not stepped. The batch norms among them go on normalising by the
// batch, and their running means go on following it.

// Takes the parameters whose names begin with one of the prefixes out of the training for good. To be called
// before the optimiser is made. INVALID_ARGUMENT if a prefix fits nothing (naming what there is) or if
// nothing is left to train.
absl::Status FreezeParameters(Network& network, const std::vector<std::string>& prefixes);

// For the first steps of a run only the head is trained, lest its random weights spoil what the layers below
// it know. A pure function of the step, so that a resumed run agrees. Not thread-safe.
class FreezeStage {
 public:
  // The head: parameters whose names begin with `head`; empty: the layer of the last parameter ("fc.weight" →
  // "fc."). INVALID_ARGUMENT if nothing, or everything, is in it.
  static absl::StatusOr<FreezeStage> Create(Network& network, uint64_t steps, const std::string& head);
  // Before the step that follows `steps_done` steps.
  void Apply(uint64_t steps_done);

 private:
  FreezeStage(uint64_t steps, std::vector<torch::Tensor> body) : steps_(steps), body_(std::move(body)) {}
  uint64_t steps_;
  std::vector<torch::Tensor> body_;
};

}  // namespace doppel
