#pragma once

#include <cstdint>

namespace doppel {

// Where a loss scaler stands: what a checkpoint holds of it.
struct LossScale {
  double scale = 1;
  uint64_t good_steps = 0;  // since the scale changed last
};

// Dynamic loss scaling for float16 gradients (Micikevicius et al. 2018): the loss is multiplied by a power of
// two, so that small gradients do not vanish; a step whose gradients overflow is skipped and halves the
// scale, and `growth_interval` steps on end without one double it. Not thread-safe.
class LossScaler {
 public:
  LossScaler() = default;  // no scaling: 1 for ever
  explicit LossScaler(double initial, uint64_t growth_interval = 2000)
      : growth_interval_(growth_interval), state_{initial, 0} {}

  bool enabled() const { return growth_interval_ > 0; }
  double scale() const { return state_.scale; }
  // After a step; `finite` says whether its gradients were.
  void Update(bool finite);

  const LossScale& state() const { return state_; }
  void set_state(const LossScale& state) { state_ = state; }

 private:
  uint64_t growth_interval_ = 0;
  LossScale state_;
};

}  // namespace doppel
