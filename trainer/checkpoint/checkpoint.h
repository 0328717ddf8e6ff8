#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/io/file_system.h"
#include "common/model/network.h"
#include "trainer/loss/loss.h"
#include "trainer/train/optimizer.h"

namespace doppel {

// Where a run stood. There is no state of random numbers: all of them are functions of seed and cursor.
struct CheckpointPosition {
  uint64_t step = 0;         // steps done
  uint64_t next_cursor = 0;  // to ask the stream for
  uint64_t seed = 0;
};

// Files: model/ (a model directory like any other, ready for the miner), optimizer.pt, loss.pt,
// position.json.
absl::Status WriteCheckpoint(FileSystem& fs, const std::string& directory, Network& network,
                             Optimizer& optimizer, Loss& loss, const CheckpointPosition& position);

struct LoadedCheckpoint {
  CheckpointPosition position;
  std::unique_ptr<Network> network;
  NamedTensors optimizer;  // for Optimizer::LoadState
  NamedTensors loss;       // for Loss::LoadState
};
absl::StatusOr<LoadedCheckpoint> ReadCheckpoint(FileSystem& fs, const std::string& directory,
                                                const torch::Device& device);

// "<checkpoint>/model".
std::string CheckpointModelDirectory(const std::string& checkpoint);

}  // namespace doppel
