#pragma once

#include <array>
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
  // out[j] = the (begin + j)-th element, j < count; begin + count <= n. Several times as fast as one by one.
  void Range(uint64_t begin, uint64_t count, uint64_t* out) const;
  // The elements at in[j] < n instead; `in` may be `out`.
  void Gather(const uint64_t* in, uint64_t count, uint64_t* out) const;
  // Inverse(p(i)) == i.
  uint64_t Inverse(uint64_t value) const;
  uint64_t size() const { return n_; }

 private:
  static constexpr int kFeistelRounds = 8;

  uint64_t Round(int round, uint64_t half) const;
  uint64_t Encrypt(uint64_t value) const;
  uint64_t Decrypt(uint64_t value) const;
  void EncryptFew(uint64_t* values) const;
  void EncryptAtLeast(uint64_t count, bool wide, uint64_t* values) const;

  uint64_t n_;
  std::array<uint64_t, kFeistelRounds> round_keys_;
  uint32_t half_bits_;
  uint64_t half_mask_;
};

}  // namespace doppel
