#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/loss/statistics.h"

namespace doppel {

// One of the batches of an optimiser step.
struct StepPart {
  uint64_t steps_done = 0;
  double learning_rate = 0;
  int index = 0;  // of this batch
  int count = 1;  // batches per optimiser step
};

// What a step gave, besides changed weights.
struct StepStatistics {
  LossStatistics loss;
  // Over all parameters, before clipping.
  double grad_norm = 0;
  // Loss or gradient was not finite, and the weights were left as they were.
  bool skipped = false;
  // What the loss was multiplied by against underflow (float16); 1: nothing.
  double loss_scale = 1;
};

// Of several batches as of one: means weighted by the batches' triplets (losses and norms: plain means),
// smallest p0, largest p100, sum of triplets.
LossStatistics MergeStatistics(const std::vector<LossStatistics>& parts);

// One line of steps.jsonl.
struct StepRecord {
  uint64_t step = 0;  // steps done with this one: the first is 1
  StepStatistics statistics;
  double learning_rate = 0;
  // Of the first of its batches.
  uint64_t generation = 0;
  uint64_t cursor = 0;
  uint64_t epoch = 0;
  int32_t subspace = -1;
  double mean_similarity = 0;
  double max_similarity = 0;
  int batches = 1;
  // Times: the only fields in which a resumed run may differ from an uninterrupted one.
  double images_per_second = 0;  // of the whole step, waiting included
  double wait_seconds = 0;       // for the batches
  double step_seconds = 0;       // of the computation
};

// One JSON object without line feed; "step" comes first. Numbers that are not finite are null.
std::string ToJsonLine(const StepRecord& record);

}  // namespace doppel
