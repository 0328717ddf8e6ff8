#include "common/base/permutation.h"

#include <cassert>

#include "common/base/philox.h"

namespace doppel {
namespace {

// Four rounds make a pseudorandom permutation of a large domain; small domains need more to mix.
constexpr uint64_t kFeistelRounds = 8;

uint64_t RoundFunction(uint64_t key, uint64_t round, uint64_t half) { return MixKey(key + round, half); }

}  // namespace

KeyedPermutation::KeyedPermutation(uint64_t n, uint64_t key) : n_(n), key_(MixKey(key, n)) {
  assert(n >= 1);
  uint32_t bits = 0;
  while (bits < 64 && ((n - 1) >> bits) != 0) ++bits;
  half_bits_ = bits < 2 ? 1 : (bits + 1) / 2;
  half_mask_ = (uint64_t{1} << half_bits_) - 1;
}

uint64_t KeyedPermutation::Encrypt(uint64_t value) const {
  uint64_t left = value >> half_bits_;
  uint64_t right = value & half_mask_;
  for (uint64_t round = 0; round < kFeistelRounds; ++round) {
    const uint64_t next = left ^ (RoundFunction(key_, round, right) & half_mask_);
    left = right;
    right = next;
  }
  return left << half_bits_ | right;
}

uint64_t KeyedPermutation::Decrypt(uint64_t value) const {
  uint64_t left = value >> half_bits_;
  uint64_t right = value & half_mask_;
  for (uint64_t round = kFeistelRounds; round-- > 0;) {
    const uint64_t previous = right ^ (RoundFunction(key_, round, left) & half_mask_);
    right = left;
    left = previous;
  }
  return left << half_bits_ | right;
}

uint64_t KeyedPermutation::operator()(uint64_t i) const {
  assert(i < n_);
  uint64_t value = Encrypt(i);
  while (value >= n_) value = Encrypt(value);
  return value;
}

uint64_t KeyedPermutation::Inverse(uint64_t value) const {
  assert(value < n_);
  uint64_t i = Decrypt(value);
  while (i >= n_) i = Decrypt(i);
  return i;
}

}  // namespace doppel
