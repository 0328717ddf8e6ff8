#pragma once

#include <cstdint>
#include <string>

#include "trainer/loss/statistics.h"

namespace doppel {

// What a step gave, besides changed weights.
struct StepStatistics {
  LossStatistics loss;
  // Over all parameters, before clipping.
  double grad_norm = 0;
};

// One line of steps.jsonl.
struct StepRecord {
  uint64_t step = 0;  // steps done with this one: the first is 1
  StepStatistics statistics;
  double learning_rate = 0;
  uint64_t generation = 0;
  uint64_t cursor = 0;
  uint64_t epoch = 0;
  int32_t subspace = -1;
  double mean_similarity = 0;
  double max_similarity = 0;
  // Times: the only fields in which a resumed run may differ from an uninterrupted one.
  double images_per_second = 0;  // of the whole step, waiting included
  double wait_seconds = 0;       // for the batch
  double step_seconds = 0;       // of the computation
};

// One JSON object without line feed; "step" comes first.
std::string ToJsonLine(const StepRecord& record);

}  // namespace doppel
