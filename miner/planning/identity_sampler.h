#pragma once

#include <cstdint>
#include <vector>

#include "common/catalog/catalog.h"

namespace doppel {

// Which images of an identity a batch takes: the rotation that plan.h promises, through a permutation keyed
// by (seed, identity) alone, so every plan shows an identity's images in the same order. Immutable,
// thread-safe.
class IdentitySampler {
 public:
  // samples_per_identity ≥ 1.
  IdentitySampler(uint64_t seed, uint32_t samples_per_identity);

  // Appends K sample numbers; nothing for an identity without samples (no catalog holds one).
  void Append(uint64_t identity, uint64_t epoch, IdentitySamples samples, std::vector<uint64_t>* out) const;

 private:
  uint64_t seed_;
  uint64_t samples_per_identity_;
};

}  // namespace doppel
