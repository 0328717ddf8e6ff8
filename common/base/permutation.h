#pragma once

#include <cstdint>

namespace doppel {

// A keyed permutation of [0, n) with O(1) random access and no memory: a balanced Feistel network over the
// next even power of two, with cycle walking (Black & Rogaway, 2002) back into [0, n). Expected < 4 rounds of
// walking.
class KeyedPermutation {
 public:
  // n ≥ 1. Different keys give unrelated permutations.
  KeyedPermutation(uint64_t n, uint64_t key);

  // The i-th element, i < n.
  uint64_t operator()(uint64_t i) const;
  // Inverse(p(i)) == i.
  uint64_t Inverse(uint64_t value) const;
  uint64_t size() const { return n_; }

 private:
  uint64_t Encrypt(uint64_t value) const;
  uint64_t Decrypt(uint64_t value) const;

  uint64_t n_;
  uint64_t key_;
  uint32_t half_bits_;
  uint64_t half_mask_;
};

}  // namespace doppel
