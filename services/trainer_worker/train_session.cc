#include "services/trainer_worker/train_session.h"

#include <torch/version.h>

#include <exception>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/model/network.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/loss/loss_factory.h"
#include "trainer/train/inspect.h"
#include "trainer/train/train_step.h"

namespace doppel {
namespace {

class TorchTrainSession : public TrainSession {
 public:
  TorchTrainSession(FileSystem& fs, const TrainOptions& options, torch::Device device)
      : fs_(fs), options_(options), device_(device), reference_pass_(options.report_every) {}

  absl::Status Init(const std::string& checkpoint) {
    RestoreThreads();
    position_.seed = options_.seed;
    ASSIGN_OR_RETURN(precision_, ResolvePrecision(options_.precision, device_));
    LoadedCheckpoint loaded;
    if (!checkpoint.empty()) {
      ASSIGN_OR_RETURN(loaded, ReadCheckpoint(fs_, checkpoint, device_));
      position_ = loaded.position;
      network_ = std::move(loaded.network);
    } else if (!options_.model.empty()) {
      ASSIGN_OR_RETURN(network_, LoadNetwork(options_.model, device_));
    } else {
      ASSIGN_OR_RETURN(network_, CreateNetwork(options_.architecture, options_.seed));
      network_->To(device_);
    }
    UseChannelsLast(*network_);
    RETURN_IF_ERROR(MakeParts());
    if (checkpoint.empty()) return absl::OkStatus();
    RETURN_IF_ERROR(loss_->LoadState(loaded.loss));
    RETURN_IF_ERROR(optimizer_->LoadState(loaded.optimizer));
    if (step_->scaler().enabled()) step_->scaler().set_state(position_.loss_scale);
    if (average_ == nullptr) return absl::OkStatus();
    if (loaded.average == nullptr) {
      return absl::DataLossError(absl::StrCat(checkpoint, " holds no averaged weights, --ema needs them"));
    }
    return average_->Restore(*loaded.average, loaded.average_updates);
  }

  absl::StatusOr<StepStatistics> Step(const TrainingBatch& batch, const StepPart& part) override {
    return step_->Run(batch, part);
  }
  absl::StatusOr<StepSnapshot> Inspect(const TrainingBatch& batch, size_t triplets) override {
    ASSIGN_OR_RETURN(const Distance distance, ParseDistance(options_.loss.distance));
    const torch::Tensor& embeddings = step_->last_embeddings();
    if (!embeddings.defined() || embeddings.size(0) != static_cast<int64_t>(batch.identities.size())) {
      return absl::FailedPreconditionError("the batch is not the one that was stepped on last");
    }
    try {
      StepSnapshot snapshot = InspectBatch(embeddings, batch.identities, distance, triplets);
      snapshot.weights = InspectWeights(network_->NamedParameters());
      return snapshot;
    } catch (const std::exception& e) {
      return absl::InternalError(absl::StrCat("LibTorch failed looking at a step: ", e.what()));
    }
  }
  absl::Status WriteCheckpoint(const std::string& directory, uint64_t step, uint64_t next_cursor,
                               const EarlyStopState& early_stop) override {
    CheckpointPosition position;
    position.step = step;
    position.next_cursor = next_cursor;
    position.seed = options_.seed;
    position.early_stop = early_stop;
    position.loss_scale = step_->scaler().state();
    return doppel::WriteCheckpoint(fs_, directory, {*network_, *optimizer_, *loss_, average_.get()},
                                   position);
  }
  absl::StatusOr<ModelSpec> SaveModel(const std::string& directory, uint64_t step) override {
    const AveragedWeights averaged(average_.get());
    return SaveNetwork(*network_, step, directory);
  }
  absl::StatusOr<ModelFiles> SerializeModel(uint64_t step) override {
    const AveragedWeights averaged(average_.get());
    return SerializeNetwork(*network_, step);
  }
  absl::StatusOr<bool> KeepForReport(const TrainingBatch& batch) override {
    ASSIGN_OR_RETURN(EmbeddedBatch embedded, step_->KeepLast(batch, options_.report_references));
    kept_.push_back(std::move(embedded));
    return reference_pass_.Add(batch.pixels.size(), kept_.back().rows.defined());
  }
  absl::StatusOr<std::vector<std::vector<float>>> ReportedEmbeddings() override {
    const std::vector<EmbeddedBatch> batches = std::exchange(kept_, {});
    reference_pass_.Reset();
    ASSIGN_OR_RETURN(const std::vector<torch::Tensor> served, step_->ServedEmbeddings(batches));
    try {
      std::vector<std::vector<float>> reported;
      for (const torch::Tensor& tensor : served) {
        const torch::Tensor embeddings = tensor.to(torch::kCPU, torch::kFloat32).contiguous();
        const float* data = embeddings.data_ptr<float>();
        reported.emplace_back(data, data + embeddings.numel());
      }
      return reported;
    } catch (const std::exception& e) {
      return absl::InternalError(absl::StrCat("LibTorch failed copying embeddings: ", e.what()));
    }
  }
  void RestoreThreads() override { SetComputeThreads(options_.threads); }
  const ModelSpec& spec() const override { return network_->spec(); }
  uint64_t step() const override { return position_.step; }
  uint64_t next_cursor() const override { return position_.next_cursor; }
  const EarlyStopState& early_stop() const override { return position_.early_stop; }
  std::optional<double> collapsed_loss() const override { return loss_->CollapsedValue(); }
  std::string Describe() const override {
    return absl::StrCat(device_.str(), ", ", options_.threads, options_.threads == 1 ? " thread" : " threads",
                        ", ", PrecisionName(precision_), ", LibTorch " TORCH_VERSION);
  }

 private:
  // Everything around the network, as fresh.
  absl::Status MakeParts() {
    RETURN_IF_ERROR(FreezeParameters(*network_, options_.freeze));
    ASSIGN_OR_RETURN(loss_, MakeLoss(options_.loss));
    loss_->To(device_);
    ASSIGN_OR_RETURN(optimizer_,
                     Optimizer::Create(TrainableParameters(*network_, *loss_), options_.optimizer));
    TrainStepExtras extras;
    if (options_.ema > 0) average_ = std::make_unique<WeightAverage>(*network_, options_.ema);
    if (options_.freeze_steps > 0) {
      ASSIGN_OR_RETURN(FreezeStage stage,
                       FreezeStage::Create(*network_, options_.freeze_steps, options_.head));
      freeze_ = std::make_unique<FreezeStage>(std::move(stage));
    }
    extras.average = average_.get();
    extras.freeze = freeze_.get();
    TrainStepOptions step;
    step.device = device_;
    step.clip_norm = options_.clip_norm;
    step.precision = precision_;
    step.max_skipped = options_.max_skipped;
    step_ = std::make_unique<TrainStep>(*network_, *loss_, *optimizer_, step, extras);
    return absl::OkStatus();
  }

  FileSystem& fs_;
  const TrainOptions options_;
  const torch::Device device_;
  Precision precision_ = Precision::kFloat32;
  CheckpointPosition position_;
  std::unique_ptr<Network> network_;
  std::unique_ptr<Loss> loss_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<WeightAverage> average_;
  std::unique_ptr<FreezeStage> freeze_;
  std::unique_ptr<TrainStep> step_;
  std::vector<EmbeddedBatch> kept_;
  ReferencePass reference_pass_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TrainSession>> TrainSession::Create(FileSystem& fs,
                                                                   const TrainOptions& options,
                                                                   const std::string& checkpoint) {
  ASSIGN_OR_RETURN(const torch::Device device, ParseDevice(options.device));
  auto session = std::make_unique<TorchTrainSession>(fs, options, device);
  RETURN_IF_ERROR(session->Init(checkpoint));
  return session;
}

absl::StatusOr<ModelSpec> InitialModelSpec(const TrainOptions& options) {
  if (options.model.empty()) return options.architecture;
  return ReadModelSpec(options.model);
}

}  // namespace doppel
