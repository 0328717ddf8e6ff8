#pragma once

#include <cstdint>
#include <string>

namespace doppel {

struct EarlyStopOptions {
  // A number of the evaluation's line, such as "rank1", "recall@10" or "tar@1e-05"; empty: nothing is
  // watched.
  std::string metric;
  // Evaluations on end without a new best after which the run ends; 0: never, the best is only kept.
  uint64_t patience = 0;
};

// What has been seen so far: a checkpoint holds it, so that a resumed run stops where an uninterrupted one
// does.
struct EarlyStopState {
  uint64_t evaluations = 0;
  uint64_t best_step = 0;
  double best = 0;
  uint64_t since_best = 0;  // evaluations
};

// Watches one metric of which more is better. Not thread-safe.
class EarlyStop {
 public:
  explicit EarlyStop(EarlyStopOptions options) : options_(std::move(options)) {}

  bool watching() const { return !options_.metric.empty(); }
  // True if `value` is a new best (the first one always is; NaN never).
  bool Observe(uint64_t step, double value);
  // The run has nothing to hope for any more.
  bool exhausted() const {
    return watching() && options_.patience > 0 && state_.since_best >= options_.patience;
  }

  const EarlyStopOptions& options() const { return options_; }
  const EarlyStopState& state() const { return state_; }
  void set_state(const EarlyStopState& state) { state_ = state; }

 private:
  const EarlyStopOptions options_;
  EarlyStopState state_;
};

}  // namespace doppel
