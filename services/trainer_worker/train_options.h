#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/model/embedding_model.h"
#include "doppel/v1/batches.pb.h"
#include "trainer/loss/loss_options.h"
#include "trainer/train/optimizer_options.h"
#include "trainer/train/schedule.h"

namespace doppel {

// `doppel-trainer train`, as its flags say it. The defaults suit the glyphs.
struct TrainOptions {
  std::string server = "127.0.0.1:50051";
  std::string output;

  // Initial weights; empty: fresh ones, drawn from `seed`, of the net that `architecture` describes.
  std::string model;
  ModelSpec architecture;

  std::string plan = "subspace";
  uint32_t identities_per_batch = 48;
  uint32_t samples_per_identity = 4;
  uint32_t run_length = 1;
  std::string split;
  uint64_t identity_limit = 0;
  uint64_t generation = 0;
  std::string payload = "encoded";  // encoded | decoded | reference
  std::string augment = "mild";     // none | mild
  uint64_t seed = 1;

  LossOptions loss;  // soft_scale 0: 5 for a model that normalises, else 1; classes 0: identity_limit
  OptimizerOptions optimizer;
  ScheduleOptions schedule;
  double clip_norm = 0;

  std::string device = "auto";
  int threads = 1;
  int prefetch = 3;
  int decode_threads = 1;
  uint64_t checkpoint_every = 500;
  int keep = 3;
  uint64_t log_every = 0;
  std::string resume = "auto";  // auto | never

  uint64_t eval_every = 0;
  std::string eval_catalog;
  std::string eval_split = "test";
  int eval_queries = 2;
  bool eval_augment = false;
};

TrainOptions DefaultTrainOptions();

// Settles what depends on the model (soft margin's scale, classes, dimension, length of the schedule) and
// checks the rest. INVALID_ARGUMENT names the flag.
absl::Status ResolveTrainOptions(const ModelSpec& spec, TrainOptions* options);

// JSON of two objects: "training" settles the sequence of steps, so a resumed run must agree with it;
// "running" (threads, intervals, addresses) may change from start to start.
std::string ToJson(const TrainOptions& options);
// "", or which settings of "training" differ: "lr: 0.001 before, 0.01 now; …".
std::string TrainingDifferences(const std::string& before, const std::string& now);

// What to ask the miner for, from `cursor` on.
absl::StatusOr<v1::StreamSpec> MakeStreamSpec(const TrainOptions& options, const ModelSpec& spec,
                                              uint64_t cursor);

}  // namespace doppel
