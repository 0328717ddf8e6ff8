#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/io/file_system.h"
#include "common/model/network.h"
#include "trainer/loss/loss.h"
#include "trainer/train/early_stop.h"
#include "trainer/train/loss_scaler.h"
#include "trainer/train/optimizer.h"
#include "trainer/train/weight_average.h"

namespace doppel {

// Where a run stood. There is no state of random numbers: all of them are functions of seed and cursor.
struct CheckpointPosition {
  uint64_t step = 0;         // steps done
  uint64_t next_cursor = 0;  // to ask the stream for
  uint64_t seed = 0;
  EarlyStopState early_stop;
  LossScale loss_scale;
};

// What a checkpoint is of. `average`, if there is one, is of `network`.
struct CheckpointParts {
  Network& network;
  Optimizer& optimizer;
  Loss& loss;
  WeightAverage* average = nullptr;
};

// Files: model/ (a model directory like any other, ready for the miner; with an average of the weights it is
// the averaged model, and weights/ beside it holds the ones that are trained on), optimizer.pt, loss.pt,
// position.json.
absl::Status WriteCheckpoint(FileSystem& fs, const std::string& directory, const CheckpointParts& parts,
                             const CheckpointPosition& position);

struct LoadedCheckpoint {
  CheckpointPosition position;
  std::unique_ptr<Network> network;  // that is trained on
  NamedTensors optimizer;            // for Optimizer::LoadState
  NamedTensors loss;                 // for Loss::LoadState
  std::unique_ptr<Network> average;  // for WeightAverage::Restore; nullptr: the run has none
  uint64_t average_updates = 0;
};
absl::StatusOr<LoadedCheckpoint> ReadCheckpoint(FileSystem& fs, const std::string& directory,
                                                const torch::Device& device);

// "<checkpoint>/model".
std::string CheckpointModelDirectory(const std::string& checkpoint);

}  // namespace doppel
