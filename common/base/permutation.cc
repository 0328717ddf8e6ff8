#include "common/base/permutation.h"

#include <array>
#include <cassert>
#include <cstring>
#include <type_traits>

#include "common/base/philox.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace doppel {
namespace {

// Chains of dependent multiplications, so many are walked side by side: in a vector, and in vectors at most.
constexpr uint64_t kLanes = 8;
constexpr uint64_t kVectors = 4;
// So few are walked faster without vectors, whose multiplications take three times as long.
constexpr uint64_t kFew = 4;
constexpr uint64_t kBlock = 256;

// Those of MixKeySuffix.
constexpr uint64_t kSuffixStep = 0xD1B54A32D192ED03ULL;
constexpr uint64_t kSuffixFirst = 0xBF58476D1CE4E5B9ULL;
constexpr uint64_t kSuffixSecond = 0x94D049BB133111EBULL;

#if defined(__x86_64__)

using Lanes = uint64_t __attribute__((vector_size(kLanes * sizeof(uint64_t))));

// The low halves of x times `half` < 2^32.
__attribute__((target("avx512f"), always_inline)) inline Lanes LowTimes(Lanes x, uint64_t half) {
  const Lanes all = Lanes{} + half;
  // All lanes; gcc 12 warns about the header's version without a mask.
  return reinterpret_cast<Lanes>(
      _mm512_maskz_mul_epu32(0xff, reinterpret_cast<__m512i>(x), reinterpret_cast<__m512i>(all)));
}

// x * factor. From products of halves: the processor's own multiplication of 64 bits takes fifteen cycles,
// these five each and next to one another.
__attribute__((target("avx512f"), always_inline)) inline Lanes Product(Lanes x, uint64_t factor) {
  const uint64_t low = factor & 0xffffffff, high = factor >> 32;
  return LowTimes(x, low) + ((LowTimes(x, high) + LowTimes(x >> 32, low)) << 32);
}

// The same if x < 2^32.
__attribute__((target("avx512f"), always_inline)) inline Lanes ProductOfHalf(Lanes x, uint64_t factor) {
  return LowTimes(x, factor & 0xffffffff) + (LowTimes(x, factor >> 32) << 32);
}

// KeyedPermutation::Encrypt of kVectorsOf * kLanes values, in their place. The round is MixKeySuffix of every
// lane.
template <size_t kVectorsOf>
__attribute__((target("avx512f"))) void EncryptWide(const uint64_t* round_keys, int rounds,
                                                    uint32_t half_bits, uint64_t half_mask,
                                                    uint64_t* values) {
  std::array<Lanes, kVectorsOf> left, right;
  for (size_t v = 0; v < kVectorsOf; ++v) {
    Lanes value;
    std::memcpy(&value, values + v * kLanes, sizeof(value));
    left[v] = value >> half_bits;
    right[v] = value & half_mask;
  }
  for (int round = 0; round < rounds; ++round) {
    const uint64_t key = round_keys[round] + kSuffixStep;  // step * (half + 1) = step * half + step
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectorsOf; ++v) {
      Lanes x = key + ProductOfHalf(right[v], kSuffixStep);
      x = Product(x ^ (x >> 30), kSuffixFirst);
      x = Product(x ^ (x >> 27), kSuffixSecond);
      x = left[v] ^ ((x ^ (x >> 31)) & half_mask);
      left[v] = right[v];
      right[v] = x;
    }
  }
  for (size_t v = 0; v < kVectorsOf; ++v) {
    const Lanes value = left[v] << half_bits | right[v];
    std::memcpy(values + v * kLanes, &value, sizeof(value));
  }
}

#endif

bool HasWideVectors() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") != 0;
#else
  return false;
#endif
}

}  // namespace

// Four rounds make a pseudorandom permutation of a large domain; small domains need more to mix, so there are
// eight. Round r of `half` is MixKey(key + r, half); what does not depend on `half` is worked out here.
KeyedPermutation::KeyedPermutation(uint64_t n, uint64_t key) : n_(n) {
  assert(n >= 1);
  const uint64_t mixed = MixKey(key, n);
  for (int round = 0; round < kFeistelRounds; ++round) round_keys_[round] = MixKeyPrefix(mixed + round);
  uint32_t bits = 0;
  while (bits < 64 && ((n - 1) >> bits) != 0) ++bits;
  half_bits_ = bits < 2 ? 1 : (bits + 1) / 2;
  half_mask_ = (uint64_t{1} << half_bits_) - 1;
}

inline uint64_t KeyedPermutation::Round(int round, uint64_t half) const {
  return MixKeySuffix(round_keys_[round], half) & half_mask_;
}

uint64_t KeyedPermutation::Encrypt(uint64_t value) const {
  uint64_t left = value >> half_bits_;
  uint64_t right = value & half_mask_;
  for (int round = 0; round < kFeistelRounds; ++round) {
    const uint64_t next = left ^ Round(round, right);
    left = right;
    right = next;
  }
  return left << half_bits_ | right;
}

uint64_t KeyedPermutation::Decrypt(uint64_t value) const {
  uint64_t left = value >> half_bits_;
  uint64_t right = value & half_mask_;
  for (int round = kFeistelRounds; round-- > 0;) {
    const uint64_t previous = right ^ Round(round, left);
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

void KeyedPermutation::Range(uint64_t begin, uint64_t count, uint64_t* out) const {
  for (uint64_t j = 0; j < count; ++j) out[j] = begin + j;
  Gather(out, count, out);
}

// Four that do not wait for one another.
inline void KeyedPermutation::EncryptFew(uint64_t* values) const {
  std::array<uint64_t, kFew> left, right;
#pragma GCC unroll 4
  for (size_t i = 0; i < kFew; ++i) {
    left[i] = values[i] >> half_bits_;
    right[i] = values[i] & half_mask_;
  }
  for (int round = 0; round < kFeistelRounds; ++round) {
#pragma GCC unroll 4
    for (size_t i = 0; i < kFew; ++i) {
      const uint64_t next = left[i] ^ Round(round, right[i]);
      left[i] = right[i];
      right[i] = next;
    }
  }
#pragma GCC unroll 4
  for (size_t i = 0; i < kFew; ++i) values[i] = left[i] << half_bits_ | right[i];
}

// Encrypts `count` values or a few more, up to the next multiple of kVectors * kLanes.
void KeyedPermutation::EncryptAtLeast(uint64_t count, [[maybe_unused]] bool wide, uint64_t* values) const {
  uint64_t done = 0;
#if defined(__x86_64__)
  while (wide && count > done + kFew) {
    const auto encrypt = [&](auto vectors) {
      EncryptWide<decltype(vectors)::value>(round_keys_.data(), kFeistelRounds, half_bits_, half_mask_,
                                            values + done);
      done += decltype(vectors)::value * kLanes;
    };
    if (count - done > 2 * kLanes) {
      encrypt(std::integral_constant<size_t, kVectors>());
    } else if (count - done > kLanes) {
      encrypt(std::integral_constant<size_t, 2>());
    } else {
      encrypt(std::integral_constant<size_t, 1>());
    }
  }
#endif
  for (; done < count; done += kFew) EncryptFew(values + done);
}

void KeyedPermutation::Gather(const uint64_t* in, uint64_t count, uint64_t* out) const {
  for (; count > kBlock; count -= kBlock, in += kBlock, out += kBlock) Gather(in, kBlock, out);
  // Those that are still on their walk: place in `out`, and value. Behind them anything may be encrypted,
  // too.
  std::array<uint32_t, kBlock> places;
  std::array<uint64_t, kBlock + kVectors * kLanes> values;
  for (uint64_t j = 0; j < count; ++j) {
    assert(in[j] < n_);
    places[j] = static_cast<uint32_t>(j);
    values[j] = in[j];
  }
  for (uint64_t j = count; j % (kVectors * kLanes) != 0; ++j) values[j] = 0;
  const bool wide = HasWideVectors();
  for (uint64_t walking = count; walking > 0;) {
    EncryptAtLeast(walking, wide, values.data());
    // Without a branch: every second one guesses wrong. What has arrived is overwritten by the next.
    uint64_t left_over = 0;
    for (uint64_t j = 0; j < walking; ++j) {
      const uint64_t value = values[j];
      const uint32_t place = places[j];
      out[place] = value;
      values[left_over] = value;
      places[left_over] = place;
      left_over += value >= n_ ? 1 : 0;
    }
    walking = left_over;
  }
}

uint64_t KeyedPermutation::Inverse(uint64_t value) const {
  assert(value < n_);
  uint64_t i = Decrypt(value);
  while (i >= n_) i = Decrypt(i);
  return i;
}

}  // namespace doppel
