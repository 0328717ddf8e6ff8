#include "miner/planning/identity_sampler.h"

#include <algorithm>
#include <array>

#include "absl/types/span.h"
#include "common/base/permutation.h"
#include "common/base/philox.h"
#include "common/catalog/readers/market1501_reader.h"

namespace doppel {
namespace {

constexpr uint64_t kSampleTag = 0x696d61676573;  // "images"
// Up to here a shuffle of all positions is cheaper than K times a keyed permutation of a tiny domain.
constexpr uint64_t kShuffled = 64;
// Side by side.
constexpr size_t kLookUps = 64;

// A permutation of [0, n), n <= kShuffled: Fisher-Yates, 32 random bits a step (the bias is below 2^-26).
void Shuffle(uint64_t n, uint64_t key, uint8_t* order) {
  std::array<uint32_t, kShuffled> random;
  Philox(key).FirstBlocks(static_cast<uint32_t>((n + 3) / 4), random.data());
  for (uint64_t i = 0; i < n; ++i) {
    const uint64_t j = uint64_t{random[i]} * (i + 1) >> 32;  // [0, i]
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

// Those of an identity's samples that the guard list drops. Precondition: they are consecutive.
absl::Span<const uint64_t> DroppedOf(const GuardList& guard_list, IdentitySamples samples) {
  const std::vector<uint64_t>& dropped = guard_list.samples();
  const auto begin = std::lower_bound(dropped.begin(), dropped.end(), samples.first);
  const auto end = std::lower_bound(begin, dropped.end(), samples.first + samples.count);
  return absl::MakeConstSpan(dropped.data() + (begin - dropped.begin()), static_cast<size_t>(end - begin));
}

// The position-th sample that is not dropped.
uint64_t KeptSample(uint64_t first, uint64_t position, absl::Span<const uint64_t> dropped) {
  uint64_t sample = first + position;
  for (uint64_t gone : dropped) {
    if (gone > sample) break;
    ++sample;
  }
  return sample;
}

}  // namespace

// The key of an identity is MixKey(seed, kSampleTag, identity).
IdentitySampler::IdentitySampler(uint64_t seed, uint32_t samples_per_identity, const GuardList* guard_list)
    : key_prefix_(MixKeyPrefix(MixKey(seed, kSampleTag))),
      samples_per_identity_(samples_per_identity),
      guard_list_(guard_list != nullptr && guard_list->samples().empty() ? nullptr : guard_list) {}

void IdentitySampler::Append(uint64_t identity, uint64_t epoch, IdentitySamples samples,
                             std::vector<uint64_t>* out) const {
  if (guard_list_ != nullptr || cameras_ != nullptr) return AppendSome(identity, epoch, samples, out);
  if (samples.count == 0) return;
  out->resize(out->size() + samples_per_identity_);
  Write(identity, epoch, samples, out->data() + out->size() - samples_per_identity_);
}

void IdentitySampler::AppendAll(const Catalog& catalog, uint64_t epoch, std::vector<uint64_t>* identities,
                                std::vector<uint64_t>* out) const {
  const size_t before = out->size();
  out->reserve(before + identities->size() * samples_per_identity_);
  size_t kept = 0;
  std::array<IdentitySamples, kLookUps> found;
  for (size_t begin = 0; begin < identities->size(); begin += kLookUps) {
    const size_t count = std::min(kLookUps, identities->size() - begin);
    for (size_t i = 0; i < count; ++i) found[i] = catalog.Samples((*identities)[begin + i]);
    for (size_t i = 0; i < count; ++i) {
      const uint64_t identity = (*identities)[begin + i];
      const size_t size = out->size();
      Append(identity, epoch, found[i], out);
      if (out->size() > size) (*identities)[kept++] = identity;
    }
  }
  identities->resize(kept);
}

void IdentitySampler::Write(uint64_t identity, uint64_t epoch, IdentitySamples samples, uint64_t* out) const {
  const uint64_t n = samples.count;
  const uint64_t key = MixKeySuffix(key_prefix_, identity);
  uint64_t position = n < samples_per_identity_ ? 0 : RotationOf(epoch, samples_per_identity_, n);
  const auto write = [&](const auto& order) {
    for (uint64_t j = 0; j < samples_per_identity_; ++j) {
      out[j] = samples[order(position)];
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

// With a guard list or cameras.
void IdentitySampler::AppendSome(uint64_t identity, uint64_t epoch, IdentitySamples samples,
                                 std::vector<uint64_t>* out) const {
  absl::Span<const uint64_t> dropped;
  std::vector<uint64_t> scattered;  // of samples that are not consecutive, those that are kept
  if (samples.numbers != nullptr) {
    scattered.reserve(samples.count);
    for (uint64_t i = 0; i < samples.count; ++i) {
      if (guard_list_ == nullptr || !guard_list_->Dropped(samples[i])) scattered.push_back(samples[i]);
    }
  } else if (guard_list_ != nullptr) {
    dropped = DroppedOf(*guard_list_, samples);
  }
  const bool consecutive = samples.numbers == nullptr;
  const uint64_t n = consecutive ? samples.count - dropped.size() : scattered.size();
  if (n == 0) return;
  const uint64_t key = MixKeySuffix(key_prefix_, identity);
  const uint64_t begin = n < samples_per_identity_ ? 0 : RotationOf(epoch, samples_per_identity_, n);
  const auto append = [&](const auto& order, uint64_t start, uint64_t count, std::vector<uint64_t>* to) {
    uint64_t position = start;
    for (uint64_t j = 0; j < count; ++j) {
      const uint64_t at = order(position);
      to->push_back(consecutive ? KeptSample(samples.first, at, dropped) : scattered[at]);
      if (++position == n) position = 0;
    }
  };
  const auto take = [&](const auto& order) {
    if (cameras_ == nullptr) return append(order, begin, samples_per_identity_, out);
    std::vector<uint64_t> rotation;
    rotation.reserve(n);
    append(order, epoch % n, n, &rotation);
    AppendSpread(rotation, out);
  };
  if (n <= kShuffled) {
    std::array<uint8_t, kShuffled> order;
    Shuffle(n, key, order.data());
    take([&order](uint64_t position) { return order[position]; });
  } else {
    take(KeyedPermutation(n, key));
  }
}

void IdentitySampler::AppendSpread(const std::vector<uint64_t>& rotation, std::vector<uint64_t>* out) const {
  std::vector<int> cameras;
  cameras.reserve(rotation.size());
  for (uint64_t sample : rotation) cameras.push_back(CameraOfKey(cameras_->SampleKey(sample)));
  // How many images of its own camera stand before an image: lower goes first.
  std::vector<uint64_t> order(rotation.size()), earlier(rotation.size(), 0);
  for (size_t i = 0; i < rotation.size(); ++i) {
    order[i] = i;
    for (size_t j = 0; j < i; ++j) earlier[i] += cameras[j] == cameras[i] ? 1 : 0;
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](uint64_t a, uint64_t b) { return earlier[a] < earlier[b]; });
  for (uint64_t j = 0; j < samples_per_identity_; ++j) out->push_back(rotation[order[j % order.size()]]);
}

}  // namespace doppel
