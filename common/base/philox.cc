#include "common/base/philox.h"

#include <algorithm>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace doppel {
namespace {

constexpr uint32_t kMultiplier0 = 0xD2511F53;
constexpr uint32_t kMultiplier1 = 0xCD9E8D57;
constexpr uint32_t kWeyl0 = 0x9E3779B9;
constexpr uint32_t kWeyl1 = 0xBB67AE85;
constexpr int kRounds = 10;

// As in MixKeySuffix.
uint64_t Finalize(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

#if defined(__x86_64__)

constexpr uint32_t kLanesAvx2 = 8;

__attribute__((target("avx2"))) inline __m256i AllAvx2(uint32_t x) {
  return _mm256_set1_epi32(static_cast<int>(x));
}

// x * y of every lane: low and high halves.
__attribute__((target("avx2"))) inline void MultiplyWide(__m256i x, __m256i y, __m256i* low, __m256i* high) {
  const __m256i even = _mm256_mul_epu32(x, y);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), y);
  *low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
  *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
}

// The blocks of eight counters, each with a key of its own (low and high halves), as Philox::Block computes
// them: out[8][4].
__attribute__((target("avx2"))) inline void EightBlocks(__m256i counters, __m256i k0, __m256i k1,
                                                        uint32_t* out) {
  __m256i c0 = counters, c1 = AllAvx2(0), c2 = AllAvx2(0), c3 = AllAvx2(0);
  for (int round = 0; round < kRounds; ++round) {
    __m256i low0, high0, low1, high1;
    MultiplyWide(c0, AllAvx2(kMultiplier0), &low0, &high0);
    MultiplyWide(c2, AllAvx2(kMultiplier1), &low1, &high1);
    c0 = _mm256_xor_si256(_mm256_xor_si256(high1, c1), k0);
    c1 = low1;
    c2 = _mm256_xor_si256(_mm256_xor_si256(high0, c3), k1);
    c3 = low0;
    k0 = _mm256_add_epi32(k0, AllAvx2(kWeyl0));
    k1 = _mm256_add_epi32(k1, AllAvx2(kWeyl1));
  }
  // From a vector for each word to the four words of a block side by side.
  const __m256i low01 = _mm256_unpacklo_epi32(c0, c1), high01 = _mm256_unpackhi_epi32(c0, c1);
  const __m256i low23 = _mm256_unpacklo_epi32(c2, c3), high23 = _mm256_unpackhi_epi32(c2, c3);
  const __m256i blocks04 = _mm256_unpacklo_epi64(low01, low23),
                blocks15 = _mm256_unpackhi_epi64(low01, low23);
  const __m256i blocks26 = _mm256_unpacklo_epi64(high01, high23),
                blocks37 = _mm256_unpackhi_epi64(high01, high23);
  auto* const to = reinterpret_cast<__m256i*>(out);
  _mm256_storeu_si256(to, _mm256_permute2x128_si256(blocks04, blocks15, 0x20));
  _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(blocks26, blocks37, 0x20));
  _mm256_storeu_si256(to + 2, _mm256_permute2x128_si256(blocks04, blocks15, 0x31));
  _mm256_storeu_si256(to + 3, _mm256_permute2x128_si256(blocks26, blocks37, 0x31));
}

__attribute__((target("avx2"))) void EightBlocksOfKey(uint64_t key, uint32_t first, uint32_t* out) {
  EightBlocks(_mm256_add_epi32(AllAvx2(first), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)),
              AllAvx2(static_cast<uint32_t>(key)), AllAvx2(static_cast<uint32_t>(key >> 32)), out);
}

__attribute__((target("avx2"))) void EightBlocksOfKeys(const uint64_t* keys, const uint32_t* counters,
                                                       uint32_t* out) {
  // From eight keys side by side to their low halves and their high ones.
  const __m256i halves_first = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
  const __m256i keys0123 =
      _mm256_permutevar8x32_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(keys)), halves_first);
  const __m256i keys4567 = _mm256_permutevar8x32_epi32(
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(keys + 4)), halves_first);
  EightBlocks(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(counters)),
              _mm256_permute2x128_si256(keys0123, keys4567, 0x20),
              _mm256_permute2x128_si256(keys0123, keys4567, 0x31), out);
}

#endif

}  // namespace

void Philox::Blocks(uint32_t first, uint32_t count, uint32_t* out) const {
  uint32_t done = 0;
#if defined(__x86_64__)
  if (count > 1 && __builtin_cpu_supports("avx2") != 0) {
    for (; count - done >= kLanesAvx2; done += kLanesAvx2) {
      EightBlocksOfKey(key_, first + done, out + 4 * done);
    }
    if (done < count) {
      std::array<uint32_t, 4 * kLanesAvx2> eight;
      EightBlocksOfKey(key_, first + done, eight.data());
      std::memcpy(out + 4 * done, eight.data(), (count - done) * 4 * sizeof(uint32_t));
      return;
    }
  }
#endif
  for (; done < count; ++done) {
    const std::array<uint32_t, 4> block = Block(first + done);
    std::copy(block.begin(), block.end(), out + 4 * done);
  }
}

void Philox::BlocksOfKeys(const uint64_t* keys, const uint32_t* counters, size_t count, uint32_t* out) {
  size_t done = 0;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") != 0) {
    for (; count - done >= kLanesAvx2; done += kLanesAvx2) {
      EightBlocksOfKeys(keys + done, counters + done, out + 4 * done);
    }
    if (count - done > 1) {
      std::array<uint64_t, kLanesAvx2> last_keys{};
      std::array<uint32_t, kLanesAvx2> last_counters{};
      std::array<uint32_t, 4 * kLanesAvx2> eight;
      std::copy(keys + done, keys + count, last_keys.begin());
      std::copy(counters + done, counters + count, last_counters.begin());
      EightBlocksOfKeys(last_keys.data(), last_counters.data(), eight.data());
      std::memcpy(out + 4 * done, eight.data(), (count - done) * 4 * sizeof(uint32_t));
      return;
    }
  }
#endif
  for (; done < count; ++done) {
    const std::array<uint32_t, 4> block = Philox(keys[done]).Block(counters[done]);
    std::copy(block.begin(), block.end(), out + 4 * done);
  }
}

std::array<uint32_t, 4> Philox::Block(uint64_t counter, uint64_t stream) const {
  uint32_t c0 = static_cast<uint32_t>(counter);
  uint32_t c1 = static_cast<uint32_t>(counter >> 32);
  uint32_t c2 = static_cast<uint32_t>(stream);
  uint32_t c3 = static_cast<uint32_t>(stream >> 32);
  uint32_t k0 = static_cast<uint32_t>(key_);
  uint32_t k1 = static_cast<uint32_t>(key_ >> 32);
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t p0 = static_cast<uint64_t>(kMultiplier0) * c0;
    const uint64_t p1 = static_cast<uint64_t>(kMultiplier1) * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
    k0 += kWeyl0;
    k1 += kWeyl1;
  }
  return {c0, c1, c2, c3};
}

uint64_t Philox::Bits(uint64_t counter, uint64_t stream) const {
  const std::array<uint32_t, 4> block = Block(counter, stream);
  return block[0] | static_cast<uint64_t>(block[1]) << 32;
}

uint64_t Philox::Below(uint64_t bound, uint64_t counter, uint64_t stream) const {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(Bits(counter, stream)) * bound) >> 64);
}

double Philox::Uniform(uint64_t counter, uint64_t stream) const {
  return static_cast<double>(Bits(counter, stream) >> 11) * 0x1.0p-53;
}

uint64_t MixKeyPrefix(uint64_t a) { return Finalize(a + 0x9E3779B97F4A7C15ULL); }

uint64_t MixKey(uint64_t a, uint64_t b) { return MixKeySuffix(MixKeyPrefix(a), b); }

uint64_t MixKey(uint64_t a, uint64_t b, uint64_t c) { return MixKey(MixKey(a, b), c); }

}  // namespace doppel
