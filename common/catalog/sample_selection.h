#pragma once

#include <algorithm>
#include <cstdint>

#include "common/base/permutation.h"
#include "common/base/philox.h"

namespace doppel {

// Which of an identity's `count` samples a pass takes: all, in the catalog's order, if `per_identity` is 0 or
// at least `count`; else those at the positions KeyedPermutation(count, MixKey(seed, identity))[0 .. S).
inline uint32_t SelectedSamples(uint32_t count, uint32_t per_identity) {
  return per_identity == 0 ? count : std::min(count, per_identity);
}
// The position of the k-th of them among the identity's samples.
inline uint64_t SelectedSample(uint32_t count, uint32_t per_identity, uint64_t seed, uint64_t identity,
                               uint64_t k) {
  if (SelectedSamples(count, per_identity) == count) return k;
  return KeyedPermutation(count, MixKey(seed, identity))(k);
}

}  // namespace doppel
