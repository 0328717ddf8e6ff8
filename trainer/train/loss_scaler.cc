#include "trainer/train/loss_scaler.h"

#include <algorithm>

namespace doppel {

void LossScaler::Update(bool finite) {
  constexpr double kLargest = 4294967296.0;  // beyond that nothing is gained
  if (!enabled()) return;
  if (!finite) {
    state_ = {std::max(state_.scale / 2, 1.0), 0};
  } else if (++state_.good_steps >= growth_interval_) {
    state_ = {std::min(state_.scale * 2, kLargest), 0};
  }
}

}  // namespace doppel
