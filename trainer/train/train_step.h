#pragma once

#include <torch/types.h>

#include "absl/status/statusor.h"
#include "common/model/network.h"
#include "trainer/loss/loss.h"
#include "trainer/stream/batch_source.h"
#include "trainer/train/optimizer.h"
#include "trainer/train/step_record.h"

namespace doppel {

struct TrainStepOptions {
  torch::Device device = torch::kCPU;
  // Gradients are scaled down to this norm; 0 leaves them.
  double clip_norm = 0;
};

// Lays convolution weights out channels-last, which is what LibTorch's CPU kernels are fast on. Before the
// optimiser is made, for fresh and resumed networks alike.
void UseChannelsLast(Network& network);

// The network's and the loss' parameters, with the prefixes "network." and "loss.".
NamedTensors TrainableParameters(Network& network, Loss& loss);

// Network + loss + optimiser, without any input or output. Not thread-safe. Owns nothing.
class TrainStep {
 public:
  TrainStep(Network& network, Loss& loss, Optimizer& optimizer, TrainStepOptions options)
      : network_(network), loss_(loss), optimizer_(optimizer), options_(options) {}

  // Forward, backward, update. If it fails (a batch of the wrong size, a gradient that is not finite) the
  // weights are as they were before.
  absl::StatusOr<StepStatistics> Run(const TrainingBatch& batch, double learning_rate);

 private:
  absl::Status Check(const TrainingBatch& batch) const;
  absl::StatusOr<StepStatistics> RunUnguarded(const TrainingBatch& batch, double learning_rate);

  Network& network_;
  Loss& loss_;
  Optimizer& optimizer_;
  const TrainStepOptions options_;
};

}  // namespace doppel
