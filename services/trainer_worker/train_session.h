#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/io/file_system.h"
#include "common/model/embedding_model.h"
#include "common/model/model_directory.h"
#include "services/trainer_worker/train_options.h"
#include "trainer/stream/batch_source.h"
#include "trainer/train/early_stop.h"
#include "trainer/train/snapshot.h"
#include "trainer/train/step_record.h"

namespace doppel {

// Network, loss and optimiser of one run, behind plain types. Not thread-safe: LibTorch's number of threads
// is set for the thread that creates it.
class TrainSession {
 public:
  // From initial weights, or, if `checkpoint` is not empty, exactly as that checkpoint left it. `options`
  // resolved.
  static absl::StatusOr<std::unique_ptr<TrainSession>> Create(FileSystem& fs, const TrainOptions& options,
                                                              const std::string& checkpoint);
  virtual ~TrainSession() = default;

  virtual absl::StatusOr<StepStatistics> Step(const TrainingBatch& batch, const StepPart& part) = 0;
  // A close look at the batch that was stepped on last, and at the weights. Changes nothing.
  virtual absl::StatusOr<StepSnapshot> Inspect(const TrainingBatch& batch, size_t triplets) = 0;
  virtual absl::Status WriteCheckpoint(const std::string& directory, uint64_t step, uint64_t next_cursor,
                                       const EarlyStopState& early_stop) = 0;
  // The averaged weights if the run has them, else those that are trained on.
  virtual absl::StatusOr<ModelSpec> SaveModel(const std::string& directory, uint64_t step) = 0;
  // The same, as the files of a model directory.
  virtual absl::StatusOr<ModelFiles> SerializeModel(uint64_t step) = 0;
  // Keeps of the batch that was stepped on last what its report needs. True: it is time for
  // ReportedEmbeddings.
  virtual absl::StatusOr<bool> KeepForReport(const TrainingBatch& batch) = 0;
  // Of all batches that were kept since the last call, in that order, as they are reported: [B, D] each (see
  // TrainStep::ServedEmbeddings).
  virtual absl::StatusOr<std::vector<std::vector<float>>> ReportedEmbeddings() = 0;
  // Sets the threads again: evaluation changes them, and the results' last bits depend on them.
  virtual void RestoreThreads() = 0;
  virtual const ModelSpec& spec() const = 0;
  // Where the checkpoint stood; zeros for a fresh run.
  virtual uint64_t step() const = 0;
  virtual uint64_t next_cursor() const = 0;
  virtual const EarlyStopState& early_stop() const = 0;
  virtual std::optional<double> collapsed_loss() const = 0;
  // "cpu, 1 thread, float32, LibTorch 1.13.1".
  virtual std::string Describe() const = 0;
};

// The model that a run starts with: that of --model, or the one that the architecture's flags describe.
absl::StatusOr<ModelSpec> InitialModelSpec(const TrainOptions& options);

}  // namespace doppel
