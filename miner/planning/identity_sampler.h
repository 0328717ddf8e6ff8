#pragma once

#include <cstdint>
#include <vector>

#include "common/catalog/catalog.h"
#include "miner/cleaning/guard_list.h"

namespace doppel {

// Which images of an identity a batch takes: the rotation that plan.h promises, through a permutation keyed
// by (seed, identity) alone, so every plan shows an identity's images in the same order. Immutable,
// thread-safe.
class IdentitySampler {
 public:
  // samples_per_identity ≥ 1. Samples that the guard list drops are as if the identity did not have them;
  // null: none. The list must outlive the sampler.
  IdentitySampler(uint64_t seed, uint32_t samples_per_identity, const GuardList* guard_list = nullptr);

  // The images come from as many cameras as there are: of the rotation, from its place in this epoch on, the
  // first of each camera, then the second of each, and so on. Every image comes first in one of n epochs. The
  // cameras are told from the keys of the catalog, which must outlive the sampler.
  void SpreadOverCameras(const Catalog* catalog) { cameras_ = catalog; }

  // Appends K sample numbers; nothing for an identity without samples (no catalog holds one). Any number will
  // do for an epoch: it chooses the place in the rotation.
  void Append(uint64_t identity, uint64_t epoch, IdentitySamples samples, std::vector<uint64_t>* out) const;

 private:
  void AppendSpread(const std::vector<uint64_t>& rotation, std::vector<uint64_t>* out) const;

  uint64_t seed_;
  uint64_t samples_per_identity_;
  const GuardList* guard_list_;
  const Catalog* cameras_ = nullptr;
};

}  // namespace doppel
