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

  // Appends K sample numbers for every one of `identities`, in order, and takes those without samples out of
  // it, so that P and P * K stay in step. Faster than one by one: the look-ups do not wait for one another.
  void AppendAll(const Catalog& catalog, uint64_t epoch, std::vector<uint64_t>* identities,
                 std::vector<uint64_t>* out) const;

 private:
  // K of them. Precondition: samples.count > 0.
  void Write(uint64_t identity, uint64_t epoch, IdentitySamples samples, uint64_t* out) const;

  uint64_t key_prefix_;
  uint64_t samples_per_identity_;
};

}  // namespace doppel
