#include "miner/planning/identity_sampler.h"

#include <array>

#include "common/base/permutation.h"
#include "common/base/philox.h"

namespace doppel {
namespace {

constexpr uint64_t kSampleTag = 0x696d61676573;  // "images"
// Up to here a shuffle of all positions is cheaper than K times a keyed permutation of a tiny domain.
constexpr uint64_t kShuffled = 64;

// A permutation of [0, n), n <= kShuffled: Fisher-Yates, 32 random bits a step (the bias is below 2^-26).
std::array<uint8_t, kShuffled> Shuffle(uint64_t n, uint64_t key) {
  const Philox philox(key);
  std::array<uint8_t, kShuffled> order;
  std::array<uint32_t, 4> random = {};
  for (uint64_t i = 0; i < n; ++i) {
    if (i % 4 == 0) random = philox.Block(i / 4);
    const uint64_t j = uint64_t{random[i % 4]} * (i + 1) >> 32;  // [0, i]
    order[i] = order[j];
    order[j] = static_cast<uint8_t>(i);
  }
  return order;
}

}  // namespace

IdentitySampler::IdentitySampler(uint64_t seed, uint32_t samples_per_identity)
    : seed_(seed), samples_per_identity_(samples_per_identity) {}

void IdentitySampler::Append(uint64_t identity, uint64_t epoch, IdentitySamples samples,
                             std::vector<uint64_t>* out) const {
  const uint64_t n = samples.count;
  if (n == 0) return;
  const uint64_t key = MixKey(seed_, kSampleTag, identity);
  // epoch * K modulo n, without overflow: both factors are below 2^32.
  const uint64_t begin = n < samples_per_identity_ ? 0 : (epoch % n) * (samples_per_identity_ % n) % n;
  const auto append = [&](const auto& order) {
    uint64_t position = begin;
    for (uint64_t j = 0; j < samples_per_identity_; ++j) {
      out->push_back(samples.first + order(position));
      if (++position == n) position = 0;
    }
  };
  if (n <= kShuffled) {
    append([order = Shuffle(n, key)](uint64_t position) { return order[position]; });
  } else {
    append(KeyedPermutation(n, key));
  }
}

}  // namespace doppel
