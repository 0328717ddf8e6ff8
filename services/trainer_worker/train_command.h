#pragma once

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/io/file_system.h"
#include "services/trainer_worker/stop_flag.h"
#include "services/trainer_worker/train_options.h"
#include "trainer/stream/batch_source.h"
#include "trainer/stream/embedding_reporter.h"
#include "trainer/stream/model_publisher.h"

namespace doppel {

// Batches from somewhere, and how to wake a Next that waits (from any thread, while `source` lives).
struct TrainingSource {
  std::unique_ptr<TrainingBatchSource> source;
  std::function<void()> cancel;
  // Null: the miner is told nothing.
  std::unique_ptr<EmbeddingReporter> reporter;
  std::unique_ptr<ModelPublisher> publisher;
};
// Opens a source of images that fit `spec`, starting at the cursor.
using TrainingSourceFactory = std::function<absl::StatusOr<TrainingSource>(
    const TrainOptions& options, const ModelSpec& spec, uint64_t cursor)>;

// Trains a run from its start, or from where its output folder says that it stopped. OK when it has all its
// steps (at once, if it had them before) and when `stop` ended it early, after a checkpoint.
absl::Status RunTrain(TrainOptions options, const TrainingSourceFactory& open_source, StopFlag& stop,
                      FileSystem& fs, bool quiet, const Clock& clock = Clock::Real());

}  // namespace doppel
