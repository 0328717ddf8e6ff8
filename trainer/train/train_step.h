#pragma once

#include <torch/types.h>

#include <vector>

#include "absl/status/statusor.h"
#include "common/model/network.h"
#include "trainer/loss/loss.h"
#include "trainer/stream/batch_source.h"
#include "trainer/train/freeze.h"
#include "trainer/train/loss_scaler.h"
#include "trainer/train/optimizer.h"
#include "trainer/train/precision.h"
#include "trainer/train/served_embeddings.h"
#include "trainer/train/step_record.h"
#include "trainer/train/weight_average.h"

namespace doppel {

struct TrainStepOptions {
  torch::Device device = torch::kCPU;
  // Gradients are scaled down to this norm; 0 leaves them.
  double clip_norm = 0;
  Precision precision = Precision::kFloat32;
  // Steps on end whose loss or gradient may be not finite: they are skipped. One more is an error.
  int max_skipped = 0;
};

// What takes part besides network, loss and optimiser. Not owned; nullptr: not there.
struct TrainStepExtras {
  WeightAverage* average = nullptr;
  FreezeStage* freeze = nullptr;
};

// Lays convolution weights out channels-last, which is what LibTorch's CPU kernels are fast on. Before the
// optimiser is made, for fresh and resumed networks alike.
void UseChannelsLast(Network& network);

// The network's and the loss' parameters, with the prefixes "network." and "loss.".
NamedTensors TrainableParameters(Network& network, Loss& loss);

// Network + loss + optimiser, without any input or output. Not thread-safe. Owns nothing.
//
// A step has one or several batches (gradient accumulation). Each batch is embedded and mined for itself:
// positives and negatives never come from another batch of the step, so a step of n batches of P×K has the
// triplets of n steps, not those of a batch n times as large. The step's gradient is the mean of the batches'
// gradients, and clipping and the optimiser see that mean only. Batch norms see each batch for itself, too.
class TrainStep {
 public:
  TrainStep(Network& network, Loss& loss, Optimizer& optimizer, TrainStepOptions options,
            TrainStepExtras extras = {});

  // Forward and backward of one batch; with the last one of a step (part.index + 1 == part.count) the update,
  // and the statistics of the whole step. If a batch fails (wrong size), or more than max_skipped steps on
  // end are not finite, the weights are as they were before the step.
  absl::StatusOr<StepStatistics> Run(const TrainingBatch& batch, const StepPart& part);

  // Of the batch that was run last: [B, D] float32, without gradient. Undefined before the first one.
  const torch::Tensor& last_embeddings() const { return last_embeddings_; }
  // The same, with `references` of the batch's images, for ServedEmbeddings; 0, or a network without batch
  // norms: without images. `batch` must be the one that was run last.
  absl::StatusOr<EmbeddedBatch> KeepLast(const TrainingBatch& batch, int references) const;
  // Each batch's embeddings [B, D] as the network would give them when it is served: all their references are
  // embedded in one pass in evaluation mode, with the weights as they are now (see served_embeddings.h).
  // Without references: as trained. Changes nothing that training depends on.
  absl::StatusOr<std::vector<torch::Tensor>> ServedEmbeddings(const std::vector<EmbeddedBatch>& batches);
  LossScaler& scaler() { return scaler_; }

 private:
  absl::Status Check(const TrainingBatch& batch) const;
  absl::StatusOr<StepStatistics> RunUnguarded(const TrainingBatch& batch, const StepPart& part);
  bool MaySkip() const { return options_.max_skipped > 0 || scaler_.enabled(); }
  void Begin(const StepPart& part);
  // pixels: [n, height, width, channels] uint8.
  torch::Tensor Input(const torch::Tensor& pixels) const;
  torch::Tensor Embed(const torch::Tensor& input);
  // Forward, loss, backward; sets finite_ to false instead of an error if numbers have run off.
  absl::Status Accumulate(const TrainingBatch& batch, const StepPart& part);
  absl::StatusOr<StepStatistics> Update(const StepPart& part);
  absl::StatusOr<StepStatistics> Skip(StepStatistics statistics);

  Network& network_;
  Loss& loss_;
  Optimizer& optimizer_;
  const TrainStepOptions options_;
  const TrainStepExtras extras_;
  const bool batch_norms_;
  LossScaler scaler_;
  torch::Tensor last_embeddings_;

  // Of the step under way.
  std::vector<LossStatistics> parts_;
  bool finite_ = true;
  std::vector<torch::Tensor> buffers_;  // as they were before it

  int skipped_in_a_row_ = 0;
};

}  // namespace doppel
