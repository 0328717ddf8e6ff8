#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/model/embedding_model.h"
#include "common/net/client_security.h"
#include "doppel/v1/batches.pb.h"
#include "trainer/loss/loss_options.h"
#include "trainer/train/early_stop.h"
#include "trainer/train/optimizer_options.h"
#include "trainer/train/schedule.h"
#include "trainer/train/starvation_detector.h"

namespace doppel {

// `doppel-trainer train`, as its flags say it. The defaults suit the glyphs.
struct TrainOptions {
  std::string server = "127.0.0.1:50051";
  ClientSecurity security;
  std::string output;

  // Initial weights; empty: fresh ones, drawn from `seed`, of the net that `architecture` describes.
  std::string model;
  ModelSpec architecture;

  std::string plan = "auto";
  std::vector<std::string> plan_options;  // key=value, see plan_options.h
  // "LO:HI": the miner holds the active share there, by how much of the batches is hard. Empty: it does not.
  std::string hardness_band;
  uint32_t identities_per_batch = 48;
  uint32_t samples_per_identity = 4;
  uint32_t run_length = 1;
  std::string split;
  uint64_t identity_limit = 0;
  uint64_t generation = 0;
  std::string payload = "encoded";  // encoded | decoded | reference
  std::string augment = "mild";     // none | mild
  // How several trainers share one plan (docs/protocol.md): every cursor for itself; the cursors of shard
  // "i/n"; or the next cursor of a named group.
  std::string sharing = "independent";  // independent | static | dynamic
  std::string shard;                    // static: "0/2"
  std::string group;                    // dynamic
  double lease_seconds = 60;            // dynamic: then another trainer gets an unacknowledged batch
  uint64_t end_cursor = 0;              // dynamic: the group is done there; 0: never
  bool verify = true;                   // CRC32C of every sample
  uint64_t seed = 1;

  LossOptions loss;  // soft_scale 0: 5 for a model that normalises, else 1; classes 0: identity_limit
  // "key=value", in the order of the command line: what the loss has beyond the settings above.
  std::vector<std::string> loss_options;
  OptimizerOptions optimizer;
  ScheduleOptions schedule;
  double clip_norm = 0;
  int accumulate = 1;                 // batches per optimiser step
  double ema = 0;                     // decay of the averaged weights; 0: none
  uint64_t freeze_steps = 0;          // in which the head alone is trained
  std::string head;                   // prefix of its parameters; empty: the last layer
  std::vector<std::string> freeze;    // prefixes of parameters that are never trained
  std::string precision = "float32";  // float32 | bfloat16 | float16 | auto
  int max_skipped = 3;                // steps on end that may be not finite
  EarlyStopOptions early_stop;

  std::string device = "auto";
  int threads = 1;
  int prefetch = 3;
  int decode_threads = 1;
  uint64_t checkpoint_every = 500;
  int keep = 3;
  uint64_t log_every = 0;
  std::string resume = "auto";  // auto | never
  StarvationOptions starvation;

  bool tensorboard = true;
  uint64_t tensorboard_every = 10;           // steps between scalars
  uint64_t tensorboard_details_every = 500;  // between histograms and images; 0: none

  // What the miner is told besides acknowledgements.
  int report_every = 8;        // batches per message of embeddings; 0: none are reported
  int report_references = 4;   // images of a batch that are embedded as served, for its report
  bool publish = true;         // weights, to the miner's model store
  uint64_t publish_every = 0;  // steps; 0: at each checkpoint
  std::string run;             // what trainers of one run share; empty: named after the folder

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
