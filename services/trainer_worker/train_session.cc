#include "services/trainer_worker/train_session.h"

#include <torch/version.h>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/model/network.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/loss/loss_factory.h"
#include "trainer/train/train_step.h"

namespace doppel {
namespace {

class TorchTrainSession : public TrainSession {
 public:
  TorchTrainSession(FileSystem& fs, const TrainOptions& options, torch::Device device)
      : fs_(fs), options_(options), device_(device) {}

  absl::Status Init(const std::string& checkpoint) {
    RestoreThreads();
    position_.seed = options_.seed;
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
    ASSIGN_OR_RETURN(loss_, MakeLoss(options_.loss));
    loss_->To(device_);
    if (!checkpoint.empty()) RETURN_IF_ERROR(loss_->LoadState(loaded.loss));
    ASSIGN_OR_RETURN(optimizer_,
                     Optimizer::Create(TrainableParameters(*network_, *loss_), options_.optimizer));
    if (!checkpoint.empty()) RETURN_IF_ERROR(optimizer_->LoadState(loaded.optimizer));
    TrainStepOptions step;
    step.device = device_;
    step.clip_norm = options_.clip_norm;
    step_ = std::make_unique<TrainStep>(*network_, *loss_, *optimizer_, step);
    return absl::OkStatus();
  }

  absl::StatusOr<StepStatistics> Step(const TrainingBatch& batch, double learning_rate) override {
    return step_->Run(batch, learning_rate);
  }
  absl::Status WriteCheckpoint(const std::string& directory, uint64_t step, uint64_t next_cursor) override {
    CheckpointPosition position;
    position.step = step;
    position.next_cursor = next_cursor;
    position.seed = options_.seed;
    return doppel::WriteCheckpoint(fs_, directory, *network_, *optimizer_, *loss_, position);
  }
  absl::StatusOr<ModelSpec> SaveModel(const std::string& directory, uint64_t step) override {
    return SaveNetwork(*network_, step, directory);
  }
  void RestoreThreads() override { SetComputeThreads(options_.threads); }
  const ModelSpec& spec() const override { return network_->spec(); }
  uint64_t step() const override { return position_.step; }
  uint64_t next_cursor() const override { return position_.next_cursor; }
  std::optional<double> collapsed_loss() const override { return loss_->CollapsedValue(); }
  std::string Describe() const override {
    return absl::StrCat(device_.str(), ", ", options_.threads, options_.threads == 1 ? " thread" : " threads",
                        ", LibTorch " TORCH_VERSION);
  }

 private:
  FileSystem& fs_;
  const TrainOptions options_;
  const torch::Device device_;
  CheckpointPosition position_;
  std::unique_ptr<Network> network_;
  std::unique_ptr<Loss> loss_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<TrainStep> step_;
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
