#include "trainer/train/train_step.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace doppel {

void UseChannelsLast(Network& network) {
  const c10::AutoGradMode no_grad(false);
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

namespace {

bool HasBatchNorms(Network& network) {
  const auto buffers = network.NamedBuffers();
  return std::any_of(buffers.begin(), buffers.end(),
                     [](const auto& buffer) { return absl::EndsWith(buffer.first, "running_mean"); });
}

// The batch's own bytes: not to be kept longer than it.
torch::Tensor Pixels(const TrainingBatch& batch) {
  const auto n = static_cast<int64_t>(batch.identities.size());
  // from_blob wants a mutable pointer; nothing writes through it.
  return at::from_blob(const_cast<uint8_t*>(batch.pixels.data()),
                       {n, batch.height, batch.width, batch.channels}, torch::kUInt8);
}

// Spread over n rows, whose parts may be of different kinds.
torch::Tensor SpreadRows(int64_t count, int64_t n) {
  torch::Tensor rows = at::empty({count}, torch::kInt64);
  auto* out = rows.data_ptr<int64_t>();
  for (int64_t i = 0; i < count; ++i) out[i] = i * n / count;
  return rows;
}

}  // namespace

TrainStep::TrainStep(Network& network, Loss& loss, Optimizer& optimizer, TrainStepOptions options,
                     TrainStepExtras extras)
    : network_(network),
      loss_(loss),
      optimizer_(optimizer),
      options_(options),
      extras_(extras),
      batch_norms_(HasBatchNorms(network)) {
  if (options_.precision == Precision::kFloat16) scaler_ = LossScaler(65536);
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

absl::StatusOr<StepStatistics> TrainStep::Run(const TrainingBatch& batch, const StepPart& part) {
  RETURN_IF_ERROR(Check(batch));
  try {
    return RunUnguarded(batch, part);
  } catch (const std::exception& e) {
    return absl::InternalError(absl::StrCat("LibTorch failed in a training step: ", e.what()));
  }
}

absl::StatusOr<StepStatistics> TrainStep::RunUnguarded(const TrainingBatch& batch, const StepPart& part) {
  if (part.index == 0) Begin(part);
  // Once numbers have run off, the rest of the step's batches cannot save it.
  if (finite_) RETURN_IF_ERROR(Accumulate(batch, part));
  if (part.index + 1 < part.count) return StepStatistics{};
  return Update(part);
}

void TrainStep::Begin(const StepPart& part) {
  if (extras_.freeze != nullptr) extras_.freeze->Apply(part.steps_done);
  network_.Train(true);
  optimizer_.ZeroGrad();
  parts_.clear();
  finite_ = true;
  buffers_.clear();
  if (!MaySkip()) return;
  const c10::AutoGradMode no_grad(false);
  for (const auto& [name, buffer] : network_.NamedBuffers()) buffers_.push_back(buffer.clone());
}

torch::Tensor TrainStep::Input(const torch::Tensor& pixels) const {
  return ToInput(network_.spec(), pixels.to(options_.device));
}

torch::Tensor TrainStep::Embed(const torch::Tensor& input) {
  if (options_.precision == Precision::kFloat32) return network_.Forward(input);
  torch::Tensor embeddings;
  {
    const AutocastScope autocast(options_.precision, options_.device);
    embeddings = network_.Forward(input);
  }
  embeddings = embeddings.to(torch::kFloat32);
  // 16 bits leave the norm off by up to 1 %.
  if (network_.spec().normalize) {
    embeddings = embeddings / embeddings.norm(2, {1}, /*keepdim=*/true).clamp_min(1e-12);
  }
  return embeddings;
}

absl::Status TrainStep::Accumulate(const TrainingBatch& batch, const StepPart& part) {
  const torch::Tensor embeddings = Embed(Input(Pixels(batch)));
  last_embeddings_ = embeddings.detach();
  if (MaySkip() && !last_embeddings_.isfinite().all().item<bool>()) {
    finite_ = false;
    return absl::OkStatus();
  }
  LossInput input(embeddings, batch.identities);
  input.step = part.steps_done;
  input.generation = batch.generation;
  ASSIGN_OR_RETURN(LossResult result, loss_.Compute(input));
  parts_.push_back(result.statistics);
  finite_ = std::isfinite(result.statistics.loss);
  if (!finite_) return absl::OkStatus();
  torch::Tensor loss = result.loss;
  const double factor = scaler_.scale() / part.count;
  if (factor != 1) loss = loss * factor;
  loss.backward();
  return absl::OkStatus();
}

absl::StatusOr<StepStatistics> TrainStep::Update(const StepPart& part) {
  StepStatistics statistics;
  statistics.loss = MergeStatistics(parts_);
  statistics.loss_scale = scaler_.scale();
  if (finite_) {
    if (scaler_.scale() != 1) optimizer_.ScaleGradients(1 / scaler_.scale());
    statistics.grad_norm = optimizer_.GradNormAndClip(options_.clip_norm);
  } else {
    statistics.loss.loss = std::numeric_limits<double>::quiet_NaN();
  }
  const bool finite = finite_ && std::isfinite(statistics.grad_norm);
  scaler_.Update(finite);
  if (!finite) return Skip(statistics);
  skipped_in_a_row_ = 0;
  optimizer_.Step(part.learning_rate);
  if (extras_.average != nullptr) extras_.average->Update();
  return statistics;
}

absl::StatusOr<EmbeddedBatch> TrainStep::KeepLast(const TrainingBatch& batch, int references) const {
  RETURN_IF_ERROR(Check(batch));
  const auto n = static_cast<int64_t>(batch.identities.size());
  if (!last_embeddings_.defined() || last_embeddings_.size(0) != n) {
    return absl::FailedPreconditionError("the batch is not the one that was stepped on last");
  }
  EmbeddedBatch kept;
  kept.embeddings = last_embeddings_;
  if (references <= 0 || !batch_norms_) return kept;
  try {
    kept.rows = SpreadRows(std::min<int64_t>(references, n), n);
    kept.images = Pixels(batch).index_select(0, kept.rows);
    return kept;
  } catch (const std::exception& e) {
    return absl::InternalError(absl::StrCat("LibTorch failed keeping a batch for a report: ", e.what()));
  }
}

absl::StatusOr<std::vector<torch::Tensor>> TrainStep::ServedEmbeddings(
    const std::vector<EmbeddedBatch>& batches) {
  std::vector<torch::Tensor> images;
  for (const EmbeddedBatch& batch : batches) {
    if (batch.rows.defined()) images.push_back(batch.images);
  }
  const c10::AutoGradMode no_grad(false);
  try {
    torch::Tensor served;
    if (!images.empty()) {
      network_.Train(false);
      served = Embed(Input(at::cat(images)));
      network_.Train(true);
    }
    std::vector<torch::Tensor> result;
    int64_t first = 0;
    for (const EmbeddedBatch& batch : batches) {
      if (!batch.rows.defined()) {
        result.push_back(batch.embeddings);
        continue;
      }
      const int64_t count = batch.rows.size(0);
      result.push_back(FitToServed(batch.embeddings, batch.rows.to(options_.device),
                                   served.narrow(0, first, count), network_.spec().normalize));
      first += count;
    }
    return result;
  } catch (const std::exception& e) {
    return absl::InternalError(absl::StrCat("LibTorch failed embedding for a report: ", e.what()));
  }
}

absl::StatusOr<StepStatistics> TrainStep::Skip(StepStatistics statistics) {
  optimizer_.ZeroGrad();
  const c10::AutoGradMode no_grad(false);
  auto buffers = network_.NamedBuffers();
  for (size_t i = 0; i < buffers_.size(); ++i) buffers[i].second.copy_(buffers_[i]);
  // While the loss scale has room below it, a skipped step is how it finds its place.
  const bool settling = scaler_.enabled() && statistics.loss_scale > 1;
  if (!settling && ++skipped_in_a_row_ > options_.max_skipped) {
    return absl::FailedPreconditionError(
        absl::StrCat("loss ", statistics.loss.loss, ", gradient norm ", statistics.grad_norm, " (",
                     skipped_in_a_row_, skipped_in_a_row_ == 1 ? " step" : " steps on end",
                     "): the training has diverged. Resume from an earlier checkpoint with a lower learning "
                     "rate, a warm-up, or gradient clipping"));
  }
  statistics.skipped = true;
  return statistics;
}

}  // namespace doppel
