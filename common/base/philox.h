#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace doppel {

// Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011; the reference's known-answer vectors
// are in the test). A pure function of (key, counter), so any number can be had in any order, on any thread.
class Philox {
 public:
  explicit Philox(uint64_t key) : key_(key) {}

  // 128 random bits at `counter` (low 64 bits) and `stream` (high 64 bits).
  std::array<uint32_t, 4> Block(uint64_t counter, uint64_t stream = 0) const;
  // Block(first) to Block(first + count - 1) of stream 0, one behind the other. Several times as fast as one
  // by one. first + count < 2^32.
  void Blocks(uint32_t first, uint32_t count, uint32_t* out) const;
  // Philox(keys[i]).Block(counters[i]), i < count, one behind the other. As fast as that.
  static void BlocksOfKeys(const uint64_t* keys, const uint32_t* counters, size_t count, uint32_t* out);
  // 64 random bits.
  uint64_t Bits(uint64_t counter, uint64_t stream = 0) const;
  // Uniform in [0, bound), without modulo bias to speak of (128-bit multiply). bound ≥ 1.
  uint64_t Below(uint64_t bound, uint64_t counter, uint64_t stream = 0) const;
  // Uniform in [0, 1).
  double Uniform(uint64_t counter, uint64_t stream = 0) const;

 private:
  uint64_t key_;
};

// One key out of several values: order matters. For keys of Philox and KeyedPermutation.
uint64_t MixKey(uint64_t a, uint64_t b);
uint64_t MixKey(uint64_t a, uint64_t b, uint64_t c);

// MixKey(a, b) == MixKeySuffix(MixKeyPrefix(a), b): for many b with one a.
uint64_t MixKeyPrefix(uint64_t a);
inline uint64_t MixKeySuffix(uint64_t prefix, uint64_t b) {
  // The finalizer of SplitMix64: a bijection in which every input bit reaches every output bit.
  uint64_t x = prefix + 0xD1B54A32D192ED03ULL * (b + 1);
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

}  // namespace doppel
