#include "miner/representation/running_mean.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace doppel {

RunningMean::RunningMean(uint64_t identities, int dimension, double half_life)
    : identities_(identities),
      dimension_(dimension),
      half_life_(half_life),
      // Pages that nobody has written are not there yet.
      means_(static_cast<float*>(std::calloc(std::max<uint64_t>(1, identities) * dimension, sizeof(float)))),
      weights_(identities),
      samples_(identities),
      steps_(identities) {}

void RunningMean::Add(uint64_t identity, const float* x, uint32_t samples, uint64_t step) {
  double old_weight = weights_[identity];
  double new_weight = samples;
  const uint64_t before = steps_[identity];
  if (half_life_ > 0 && old_weight > 0) {
    const uint64_t apart = step > before ? step - before : before - step;
    (step > before ? old_weight : new_weight) *= std::exp2(-static_cast<double>(apart) / half_life_);
  }
  const double total = old_weight + new_weight;
  // The share of a report that is many half-lives old may vanish.
  const auto share = static_cast<float>(total > 0 ? new_weight / total : 1);
  float* mean = means_.get() + identity * dimension_;
  for (int d = 0; d < dimension_; ++d) mean[d] += share * (x[d] - mean[d]);
  weights_[identity] = static_cast<float>(total);
  if (samples_[identity] == 0) ++num_seen_;
  samples_[identity] += samples;
  steps_[identity] = std::max(before, step);
}

void RunningMean::Restore(uint64_t identity, const float* mean, float weight, uint64_t samples,
                          uint64_t step) {
  std::memcpy(means_.get() + identity * dimension_, mean, dimension_ * sizeof(float));
  if (samples_[identity] == 0 && samples > 0) ++num_seen_;
  weights_[identity] = weight;
  samples_[identity] = samples;
  steps_[identity] = step;
}

uint64_t RunningMean::memory_bytes() const {
  return num_seen_ * dimension_ * sizeof(float) +
         identities_ * (sizeof(float) + sizeof(uint64_t) + sizeof(uint64_t));
}

}  // namespace doppel
