#include "common/base/permutation.h"

#include <array>
#include <cassert>
#include <cstring>

#include "common/base/philox.h"

namespace doppel {
namespace {

// Chains of dependent multiplications: so many are walked side by side.
constexpr uint64_t kLanes = 8;
constexpr uint64_t kBlock = 256;

#if defined(__x86_64__)

using Lanes = uint64_t __attribute__((vector_size(kLanes * sizeof(uint64_t))));

// KeyedPermutation::Encrypt of `count` values, a multiple of kLanes, in their place. The round is
// MixKeySuffix of every lane.
__attribute__((target("avx512f,avx512dq"))) void EncryptWide(const uint64_t* round_keys, int rounds,
                                                             uint32_t half_bits, uint64_t half_mask,
                                                             uint64_t count, uint64_t* values) {
  // Two side by side: a multiplication takes fifteen cycles.
  for (uint64_t first = 0; first < count; first += 2 * kLanes) {
    uint64_t* const place_a = values + first;
    uint64_t* const place_b = first + kLanes < count ? place_a + kLanes : place_a;
    Lanes a, b;
    std::memcpy(&a, place_a, sizeof(a));
    std::memcpy(&b, place_b, sizeof(b));
    Lanes left_a = a >> half_bits, right_a = a & half_mask;
    Lanes left_b = b >> half_bits, right_b = b & half_mask;
    for (int round = 0; round < rounds; ++round) {
      a = round_keys[round] + 0xD1B54A32D192ED03ULL * (right_a + 1);
      b = round_keys[round] + 0xD1B54A32D192ED03ULL * (right_b + 1);
      a = (a ^ (a >> 30)) * 0xBF58476D1CE4E5B9ULL;
      b = (b ^ (b >> 30)) * 0xBF58476D1CE4E5B9ULL;
      a = (a ^ (a >> 27)) * 0x94D049BB133111EBULL;
      b = (b ^ (b >> 27)) * 0x94D049BB133111EBULL;
      a = left_a ^ ((a ^ (a >> 31)) & half_mask);
      b = left_b ^ ((b ^ (b >> 31)) & half_mask);
      left_a = right_a;
      left_b = right_b;
      right_a = a;
      right_b = b;
    }
    a = left_a << half_bits | right_a;
    b = left_b << half_bits | right_b;
    std::memcpy(place_b, &b, sizeof(b));
    std::memcpy(place_a, &a, sizeof(a));
  }
}

#endif

bool HasWideMultiplication() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512dq") != 0;
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

void KeyedPermutation::Gather(const uint64_t* in, uint64_t count, uint64_t* out) const {
  for (; count > kBlock; count -= kBlock, in += kBlock, out += kBlock) Gather(in, kBlock, out);
  // Those that are still on their walk: place in `out`, and value.
  std::array<uint32_t, kBlock> places;
  std::array<uint64_t, kBlock + kLanes> values;
  for (uint64_t j = 0; j < count; ++j) {
    assert(in[j] < n_);
    places[j] = static_cast<uint32_t>(j);
    values[j] = in[j];
  }
  [[maybe_unused]] const bool wide = HasWideMultiplication();
  for (uint64_t walking = count; walking > 0;) {
    for (uint64_t j = walking; j % kLanes != 0; ++j) values[j] = 0;
    uint64_t first = 0;
#if defined(__x86_64__)
    if (wide) {
      first = (walking + kLanes - 1) / kLanes * kLanes;
      EncryptWide(round_keys_.data(), kFeistelRounds, half_bits_, half_mask_, first, values.data());
    }
#endif
    for (; first < walking; first += kLanes) {
      std::array<uint64_t, kLanes> left, right;
      for (uint64_t lane = 0; lane < kLanes; ++lane) {
        left[lane] = values[first + lane] >> half_bits_;
        right[lane] = values[first + lane] & half_mask_;
      }
      for (int round = 0; round < kFeistelRounds; ++round) {
        for (uint64_t lane = 0; lane < kLanes; ++lane) {
          const uint64_t next = left[lane] ^ Round(round, right[lane]);
          left[lane] = right[lane];
          right[lane] = next;
        }
      }
      for (uint64_t lane = 0; lane < kLanes; ++lane) {
        values[first + lane] = left[lane] << half_bits_ | right[lane];
      }
    }
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
