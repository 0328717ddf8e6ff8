#include "common/base/philox.h"

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

}  // namespace

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
