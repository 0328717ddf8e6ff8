#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace doppel {

// The learning rate as a pure function of the step.
struct ScheduleOptions {
  // constant; linear and cosine: from `rate` down to rate * final_factor at the end; exponential: the same as
  // a geometric sequence (triplet-reid: constant up to decay_start, then to × 0.001); step: × step_factor
  // every step_every steps.
  std::string name = "constant";
  double rate = 1e-3;
  // Steps in which the rate rises linearly, from rate / warmup to rate.
  uint64_t warmup = 0;
  // Length of the whole run.
  uint64_t steps = 0;
  // The decay starts here, or after the warm-up if that is later.
  uint64_t decay_start = 0;
  // Unset: 0.001 for exponential, 0 for linear and cosine.
  std::optional<double> final_factor;
  uint64_t step_every = 0;
  double step_factor = 0.1;
};

// "constant", "linear", "cosine", "exponential", "step".
std::vector<std::string> ScheduleNames();
// INVALID_ARGUMENT names the setting that is wrong.
absl::Status CheckSchedule(const ScheduleOptions& options);
// Of the step that follows `done` steps. Precondition: CheckSchedule. Past the end the last rate stays.
double LearningRate(const ScheduleOptions& options, uint64_t done);

}  // namespace doppel
