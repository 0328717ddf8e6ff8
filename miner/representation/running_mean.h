#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

namespace doppel {

// One exponentially weighted mean per identity, of the embeddings that trainers report. Not thread-safe.
//
// A report x, the mean of n unit vectors at training step t, has weight n. It meets a mean of weight W that
// was last fed at step s: the older of the two counts 2^(-|t - s| / half_life) of its weight, so an
// identity's mean is the average over all its reported images, each weighted by its age in steps. Means are
// not normalised again. Memory: identities × dimension float32, which the system gives out as rows are seen,
// and 24 bytes per identity.
class RunningMean {
 public:
  // half_life ≤ 0: nothing is forgotten. Check ok(): there may not be that much memory.
  RunningMean(uint64_t identities, int dimension, double half_life);

  bool ok() const { return means_ != nullptr; }
  // identity < identities(); x: [dimension]; samples ≥ 1.
  void Add(uint64_t identity, const float* x, uint32_t samples, uint64_t step);
  // As a snapshot had it.
  void Restore(uint64_t identity, const float* mean, float weight, uint64_t samples, uint64_t step);

  uint64_t identities() const { return identities_; }
  int dimension() const { return dimension_; }
  bool seen(uint64_t identity) const { return samples_[identity] > 0; }
  uint64_t num_seen() const { return num_seen_; }
  // [dimension]; zeros before it was seen.
  const float* mean(uint64_t identity) const { return means_.get() + identity * dimension_; }
  float weight(uint64_t identity) const { return weights_[identity]; }
  // Images that were reported.
  uint64_t samples(uint64_t identity) const { return samples_[identity]; }
  // The highest at which it was reported.
  uint64_t step(uint64_t identity) const { return steps_[identity]; }
  uint64_t memory_bytes() const;

 private:
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  const uint64_t identities_;
  const int dimension_;
  const double half_life_;
  uint64_t num_seen_ = 0;
  std::unique_ptr<float, Free> means_;
  std::vector<float> weights_;
  std::vector<uint64_t> samples_;
  std::vector<uint64_t> steps_;
};

}  // namespace doppel
