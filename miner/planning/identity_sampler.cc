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
constexpr size_t kGroup = 32;
// Of each identity's random numbers, so many are there before it is known how many it takes.
constexpr uint64_t kEarlyBlocks = 2;
constexpr uint64_t kEarly = 4 * kEarlyBlocks;

// Steps [begin, end) of a Fisher-Yates shuffle of positions, 32 random bits a step (the bias is below 2^-26).
// Step i makes of a permutation of [0, i) one of [0, i].
void ShuffleSteps(uint64_t begin, uint64_t end, const uint32_t* random, uint8_t* order) {
  for (uint64_t i = begin; i < end; ++i) {
    const uint64_t j = uint64_t{random[i - begin]} * (i + 1) >> 32;  // [0, i]
    order[i] = order[j];
    order[j] = static_cast<uint8_t>(i);
  }
}

// A permutation of [0, n), n <= kShuffled.
void Shuffle(uint64_t n, uint64_t key, uint8_t* order) {
  std::array<uint32_t, kShuffled> random;
  Philox(key).Blocks(0, static_cast<uint32_t>((n + 3) / 4), random.data());
  ShuffleSteps(0, n, random.data(), order);
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
  if (!Plain()) return AppendSome(identity, epoch, samples, out);
  if (samples.count == 0) return;
  out->resize(out->size() + samples_per_identity_);
  uint64_t* const to = out->data() + out->size() - samples_per_identity_;
  const uint64_t key = MixKeySuffix(key_prefix_, identity);
  if (samples.count > kShuffled) return WriteFrom(KeyedPermutation(samples.count, key), epoch, samples, to);
  std::array<uint8_t, kShuffled> order;
  Shuffle(samples.count, key, order.data());
  WriteFrom([&order](uint64_t at) { return order[at]; }, epoch, samples, to);
}

void IdentitySampler::AppendAll(const Catalog& catalog, const std::vector<uint64_t>& epochs,
                                std::vector<uint64_t>* identities, std::vector<uint64_t>* out) const {
  const size_t before = out->size();
  size_t kept = 0;
  if (Plain()) {
    out->resize(before + identities->size() * samples_per_identity_);
    for (size_t begin = 0; begin < identities->size(); begin += kGroup) {
      kept += WriteGroup(catalog, epochs.data() + begin, identities->data() + begin,
                         std::min(kGroup, identities->size() - begin), identities->data() + kept,
                         out->data() + before + kept * samples_per_identity_);
    }
    out->resize(before + kept * samples_per_identity_);
  } else {
    catalog.PrefetchSamples(identities->data(), identities->size());
    out->reserve(before + identities->size() * samples_per_identity_);
    for (size_t i = 0; i < identities->size(); ++i) {
      const uint64_t identity = (*identities)[i];
      const size_t size = out->size();
      AppendSome(identity, epochs[i], catalog.Samples(identity), out);
      if (out->size() > size) (*identities)[kept++] = identity;
    }
  }
  identities->resize(kept);
}

// Of up to kGroup identities: keys, and random numbers as far as they are computed.
struct IdentitySampler::Group {
  std::array<uint64_t, kGroup * kEarlyBlocks> keys;  // each so many times
  std::array<uint32_t, kGroup * kEarly> early;
  std::array<IdentitySamples, kGroup> samples;
  // Of those that take more: keys and counters of the other blocks, and these.
  static constexpr size_t kMost = kGroup * (kShuffled / 4 - kEarlyBlocks);
  std::array<uint64_t, kMost> late_keys;
  std::array<uint32_t, kMost> late_counters;
  std::array<uint32_t, 4 * kMost> late;
};

size_t IdentitySampler::WriteGroup(const Catalog& catalog, const uint64_t* epochs, const uint64_t* identities,
                                   size_t count, uint64_t* kept, uint64_t* out) const {
  static constexpr std::array<uint32_t, kGroup* kEarlyBlocks> kCounters = [] {
    std::array<uint32_t, kGroup * kEarlyBlocks> counters{};
    for (size_t i = 0; i < counters.size(); ++i) counters[i] = i % kEarlyBlocks;
    return counters;
  }();
  Group group;
  catalog.PrefetchSamples(identities, count);
  for (size_t i = 0; i < count; ++i) {
    const uint64_t key = MixKeySuffix(key_prefix_, identities[i]);
    for (size_t j = 0; j < kEarlyBlocks; ++j) group.keys[i * kEarlyBlocks + j] = key;
  }
  Philox::BlocksOfKeys(group.keys.data(), kCounters.data(), count * kEarlyBlocks, group.early.data());
  size_t late = 0;
  for (size_t i = 0; i < count; ++i) {
    group.samples[i] = catalog.Samples(identities[i]);
    const uint64_t n = group.samples[i].count;
    for (uint64_t block = kEarlyBlocks; n <= kShuffled && 4 * block < n; ++block, ++late) {
      group.late_keys[late] = group.keys[i * kEarlyBlocks];
      group.late_counters[late] = static_cast<uint32_t>(block);
    }
  }
  Philox::BlocksOfKeys(group.late_keys.data(), group.late_counters.data(), late, group.late.data());
  size_t written = 0;
  const uint32_t* more = group.late.data();
  for (size_t i = 0; i < count; ++i) {
    const IdentitySamples& samples = group.samples[i];
    const uint64_t n = samples.count;
    if (n == 0) continue;
    uint64_t* const to = out + written * samples_per_identity_;
    kept[written++] = identities[i];
    if (n > kShuffled) {
      WriteFrom(KeyedPermutation(n, group.keys[i * kEarlyBlocks]), epochs[i], samples, to);
      continue;
    }
    std::array<uint8_t, kShuffled> order;
    ShuffleSteps(0, std::min(n, kEarly), &group.early[i * kEarly], order.data());
    if (n > kEarly) {
      ShuffleSteps(kEarly, n, more, order.data());
      more += (n - kEarly + 3) / 4 * 4;
    }
    WriteFrom([&order](uint64_t at) { return order[at]; }, epochs[i], samples, to);
  }
  return written;
}

template <typename Order>
void IdentitySampler::WriteFrom(const Order& order, uint64_t epoch, IdentitySamples samples,
                                uint64_t* out) const {
  const uint64_t n = samples.count;
  uint64_t position = n < samples_per_identity_ ? 0 : RotationOf(epoch, samples_per_identity_, n);
  for (uint64_t j = 0; j < samples_per_identity_; ++j) {
    out[j] = samples[order(position)];
    if (++position == n) position = 0;
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
