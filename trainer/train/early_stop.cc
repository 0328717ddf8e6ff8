#include "trainer/train/early_stop.h"

#include <cmath>

namespace doppel {

bool EarlyStop::Observe(uint64_t step, double value) {
  const bool first = state_.evaluations == 0 || std::isnan(state_.best);
  const bool better = !std::isnan(value) && (first || value > state_.best);
  ++state_.evaluations;
  if (better) {
    state_.best = value;
    state_.best_step = step;
    state_.since_best = 0;
  } else {
    // A state without a best yet must not compare as one.
    if (first) state_.best = std::nan("");
    ++state_.since_best;
  }
  return better;
}

}  // namespace doppel
