#include "miner/planning/identity_sampler.h"

#include <algorithm>
#include <array>

#include "common/base/permutation.h"
#include "common/base/philox.h"

namespace doppel {
namespace {

constexpr uint64_t kSampleTag = 0x696d61676573;  // "images"
// Up to here a shuffle of all positions is cheaper than K times a keyed permutation of a tiny domain.
constexpr uint64_t kShuffled = 64;
// Side by side.
constexpr size_t kLookUps = 64;

// A permutation of [0, n), n <= kShuffled: Fisher-Yates, 32 random bits a step (the bias is below 2^-26).
void Shuffle(uint64_t n, uint64_t key, uint8_t* order) {
  const Philox philox(key);
  std::array<uint32_t, 4> random = {};
  for (uint64_t i = 0; i < n; ++i) {
    if (i % 4 == 0) random = philox.Block(i / 4);
    const uint64_t j = uint64_t{random[i % 4]} * (i + 1) >> 32;  // [0, i]
    order[i] = order[j];
    order[j] = static_cast<uint8_t>(i);
  }
}

// epoch * k modulo n without overflow, n >= 1; k is below 2^32.
uint64_t RotationOf(uint64_t epoch, uint64_t k, uint64_t n) {
  if ((epoch >> 32) == 0) {  // narrow divisions take half the time
    const auto narrow = static_cast<uint32_t>(n);
    return uint64_t{static_cast<uint32_t>(epoch) % narrow} * (static_cast<uint32_t>(k) % narrow) % n;
  }
  return (epoch % n) * (k % n) % n;
}

}  // namespace

// The key of an identity is MixKey(seed, kSampleTag, identity).
IdentitySampler::IdentitySampler(uint64_t seed, uint32_t samples_per_identity)
    : key_prefix_(MixKeyPrefix(MixKey(seed, kSampleTag))), samples_per_identity_(samples_per_identity) {}

void IdentitySampler::Append(uint64_t identity, uint64_t epoch, IdentitySamples samples,
                             std::vector<uint64_t>* out) const {
  if (samples.count == 0) return;
  out->resize(out->size() + samples_per_identity_);
  Write(identity, epoch, samples, out->data() + out->size() - samples_per_identity_);
}

void IdentitySampler::AppendAll(const Catalog& catalog, uint64_t epoch, std::vector<uint64_t>* identities,
                                std::vector<uint64_t>* out) const {
  const size_t before = out->size();
  out->resize(before + identities->size() * samples_per_identity_);
  uint64_t* next = out->data() + before;
  size_t kept = 0;
  std::array<IdentitySamples, kLookUps> found;
  for (size_t begin = 0; begin < identities->size(); begin += kLookUps) {
    const size_t count = std::min(kLookUps, identities->size() - begin);
    for (size_t i = 0; i < count; ++i) found[i] = catalog.Samples((*identities)[begin + i]);
    for (size_t i = 0; i < count; ++i) {
      if (found[i].count == 0) continue;
      const uint64_t identity = (*identities)[begin + i];
      (*identities)[kept++] = identity;
      Write(identity, epoch, found[i], next);
      next += samples_per_identity_;
    }
  }
  identities->resize(kept);
  out->resize(next - out->data());
}

void IdentitySampler::Write(uint64_t identity, uint64_t epoch, IdentitySamples samples, uint64_t* out) const {
  const uint64_t n = samples.count;
  const uint64_t key = MixKeySuffix(key_prefix_, identity);
  uint64_t position = n < samples_per_identity_ ? 0 : RotationOf(epoch, samples_per_identity_, n);
  const auto write = [&](const auto& order) {
    for (uint64_t j = 0; j < samples_per_identity_; ++j) {
      out[j] = samples.first + order(position);
      if (++position == n) position = 0;
    }
  };
  if (n <= kShuffled) {
    std::array<uint8_t, kShuffled> order;
    Shuffle(n, key, order.data());
    write([&order](uint64_t at) { return order[at]; });
  } else {
    write(KeyedPermutation(n, key));
  }
}

}  // namespace doppel
