#pragma once

#include "absl/status/statusor.h"
#include "services/trainer_worker/train_command.h"

namespace doppel {

// Batches from the miner at options.server, decoded and augmented in the background.
absl::StatusOr<TrainingSource> OpenGrpcTrainingSource(const TrainOptions& options, const ModelSpec& spec,
                                                      uint64_t cursor);

}  // namespace doppel
