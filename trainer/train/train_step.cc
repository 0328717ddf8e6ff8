#include "trainer/train/train_step.h"

#include <torch/torch.h>

#include <cmath>
#include <exception>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace doppel {

void UseChannelsLast(Network& network) {
  torch::NoGradGuard no_grad;
  for (auto& [name, parameter] : network.NamedParameters()) {
    if (parameter.dim() != 4) continue;
    parameter.set_data(parameter.detach().contiguous(torch::MemoryFormat::ChannelsLast));
  }
}

NamedTensors TrainableParameters(Network& network, Loss& loss) {
  NamedTensors result;
  for (auto& [name, parameter] : network.NamedParameters()) {
    if (parameter.requires_grad()) result.emplace_back(absl::StrCat("network.", name), parameter);
  }
  for (auto& [name, parameter] : loss.NamedParameters())
    result.emplace_back(absl::StrCat("loss.", name), parameter);
  return result;
}

absl::Status TrainStep::Check(const TrainingBatch& batch) const {
  const ModelSpec& spec = network_.spec();
  if (batch.height != spec.height || batch.width != spec.width || batch.channels != spec.channels) {
    return absl::InvalidArgumentError(absl::StrCat("the batch's images are ", batch.height, "x", batch.width,
                                                   "x", batch.channels, ", the network takes ", spec.height,
                                                   "x", spec.width, "x", spec.channels));
  }
  const size_t bytes = batch.identities.size() * batch.height * batch.width * batch.channels;
  if (batch.identities.empty() || batch.pixels.size() != bytes) {
    return absl::InvalidArgumentError(absl::StrCat("the batch holds ", batch.pixels.size(),
                                                   " bytes of pixels for ", batch.identities.size(),
                                                   " images: ", bytes, " are needed"));
  }
  return absl::OkStatus();
}

absl::StatusOr<StepStatistics> TrainStep::Run(const TrainingBatch& batch, double learning_rate) {
  RETURN_IF_ERROR(Check(batch));
  try {
    return RunUnguarded(batch, learning_rate);
  } catch (const std::exception& e) {
    return absl::InternalError(absl::StrCat("LibTorch failed in a training step: ", e.what()));
  }
}

absl::StatusOr<StepStatistics> TrainStep::RunUnguarded(const TrainingBatch& batch, double learning_rate) {
  const int64_t n = static_cast<int64_t>(batch.identities.size());
  // from_blob wants a mutable pointer; nothing writes through it.
  const torch::Tensor pixels = torch::from_blob(const_cast<uint8_t*>(batch.pixels.data()),
                                                {n, batch.height, batch.width, batch.channels}, torch::kUInt8)
                                   .to(options_.device);
  network_.Train(true);
  optimizer_.ZeroGrad();
  const torch::Tensor embeddings = network_.Forward(ToInput(network_.spec(), pixels));
  ASSIGN_OR_RETURN(LossResult result, loss_.Compute({embeddings, batch.identities}));
  result.loss.backward();

  StepStatistics statistics;
  statistics.loss = result.statistics;
  statistics.grad_norm = optimizer_.GradNormAndClip(options_.clip_norm);
  if (!std::isfinite(statistics.grad_norm) || !std::isfinite(statistics.loss.loss)) {
    return absl::FailedPreconditionError(absl::StrCat("loss ", statistics.loss.loss, ", gradient norm ",
                                                      statistics.grad_norm,
                                                      ": the training has diverged. Resume from an earlier "
                                                      "checkpoint with a lower learning rate, a warm-up, or "
                                                      "gradient clipping"));
  }
  optimizer_.Step(learning_rate);
  return statistics;
}

}  // namespace doppel
