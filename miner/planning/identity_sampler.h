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

  // Appends K sample numbers for every one of `identities`, in order, each in the epoch epochs[i], and takes
  // those without samples out of it, so that P and P * K stay in step. Several times as fast as one by one:
  // look-ups do not wait for one another, and random numbers are computed while they are on their way.
  void AppendAll(const Catalog& catalog, const std::vector<uint64_t>& epochs,
                 std::vector<uint64_t>* identities, std::vector<uint64_t>* out) const;

 private:
  struct Group;

  bool Plain() const { return guard_list_ == nullptr && cameras_ == nullptr; }
  // AppendAll of a few, to `out`. Returns how many have samples, whose identities are then `kept`; it may be
  // `identities`. Precondition: Plain().
  size_t WriteGroup(const Catalog& catalog, const uint64_t* epochs, const uint64_t* identities, size_t count,
                    uint64_t* kept, uint64_t* out) const;
  // K of them, of a shuffled order or of the permutation with this key.
  template <typename Order>
  void WriteFrom(const Order& order, uint64_t epoch, IdentitySamples samples, uint64_t* out) const;
  void AppendSome(uint64_t identity, uint64_t epoch, IdentitySamples samples,
                  std::vector<uint64_t>* out) const;
  void AppendSpread(const std::vector<uint64_t>& rotation, std::vector<uint64_t>* out) const;

  uint64_t key_prefix_;
  uint64_t samples_per_identity_;
  const GuardList* guard_list_;
  const Catalog* cameras_ = nullptr;
};

}  // namespace doppel
