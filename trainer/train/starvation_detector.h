#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/train/step_record.h"

namespace doppel {

struct StarvationOptions {
  // The batches have nothing left to teach: so small an active share…
  double active_share = 0.005;
  // …for so many steps on end.
  uint64_t patience = 200;
  // The trainer starves for batches: so large a share of a window's time spent waiting.
  double wait_share = 0.3;
  uint64_t window = 100;
  // Each warning repeats after so many further steps.
  uint64_t repeat = 1000;
};

// Tells when a run works but learns little: no active triplets, no batches, steps that had to be skipped. Not
// thread-safe.
class StarvationDetector {
 public:
  explicit StarvationDetector(StarvationOptions options) : options_(options) {}
  // Warnings that say what to do; mostly none.
  std::vector<std::string> Observe(const StepRecord& record);

 private:
  // Counts towards `options_.repeat`: true for the first time and then every so many steps.
  bool Due(uint64_t step, uint64_t* last) const;

  const StarvationOptions options_;
  uint64_t idle_run_ = 0;
  // Of the window.
  uint64_t steps_ = 0;
  uint64_t skipped_ = 0;
  double waited_ = 0;
  double computed_ = 0;
  // Steps of the latest warnings; 0: none yet.
  uint64_t idle_warned_ = 0;
  uint64_t wait_warned_ = 0;
  uint64_t skip_warned_ = 0;
};

}  // namespace doppel
