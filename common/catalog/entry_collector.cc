#include "common/catalog/entry_collector.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {
constexpr size_t kArenaBytes = 1 << 20;
constexpr size_t kMaxSplits = 1000;
}  // namespace

const char* EntryCollector::Store(absl::string_view key) {
  if (key.size() > arena_left_) {
    arena_left_ = std::max(kArenaBytes, key.size());
    arena_.emplace_back(new char[arena_left_]);
    arena_next_ = arena_.back().get();
  }
  char* stored = arena_next_;
  if (!key.empty()) std::memcpy(stored, key.data(), key.size());
  arena_next_ += key.size();
  arena_left_ -= key.size();
  return stored;
}

absl::Status EntryCollector::FindSplit(const std::string& name, uint32_t* split) {
  for (*split = 0; *split < splits_.size(); ++*split) {
    if (splits_[*split].name == name) return absl::OkStatus();
  }
  if (splits_.size() >= kMaxSplits) {
    return absl::ResourceExhaustedError(absl::StrCat("the data names more than ", kMaxSplits,
                                                     " splits: is the field \"split\" something else?"));
  }
  splits_.push_back({name, {}});
  return absl::OkStatus();
}

absl::Status EntryCollector::Add(const SampleEntry& entry) {
  uint32_t split;
  const std::string& own = entry.split.empty() ? unnamed_split_ : entry.split;
  const std::string& name = forced_split_.empty() ? own : forced_split_;
  if (name.empty()) has_unnamed_split_ = true;
  RETURN_IF_ERROR(FindSplit(name, &split));
  auto found = splits_[split].identities.find(entry.identity);
  if (found == splits_[split].identities.end()) {
    if (identities_.size() >= std::numeric_limits<uint32_t>::max()) {
      return absl::ResourceExhaustedError("more than 2^32 identities: split the data into several catalogs");
    }
    identities_.push_back({entry.identity, split, 0});
    found = splits_[split].identities.emplace(identities_.back().name, identities_.size() - 1).first;
  }
  Sample& sample = samples_.emplace_back();
  sample.offset = entry.offset;
  sample.key_data = Store(entry.key);
  sample.key_size = static_cast<uint32_t>(entry.key.size());
  sample.size = entry.size;
  sample.crc32c = entry.crc32c;
  sample.source = entry.source;
  sample.identity = found->second;
  ++identities_[found->second].samples;
  return absl::OkStatus();
}

void EntryCollector::NameTheUnnamedSplit() {
  std::string name = splits_.size() == 1 ? "all" : "none";
  const auto taken = [&] {
    return std::any_of(splits_.begin(), splits_.end(),
                       [&](const ArrivedSplit& split) { return split.name == name; });
  };
  while (taken()) name += '_';
  for (ArrivedSplit& split : splits_) {
    if (split.name.empty()) split.name = name;
  }
}

std::vector<uint32_t> EntryCollector::SplitOrder() const {
  std::vector<uint32_t> order(splits_.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [this](uint32_t a, uint32_t b) {
    const std::string &x = splits_[a].name, &y = splits_[b].name;
    return std::make_tuple(x != "train", std::cref(x)) < std::make_tuple(y != "train", std::cref(y));
  });
  return order;
}

std::vector<uint32_t> EntryCollector::IdentityOrder(const std::vector<uint32_t>& split_order) const {
  std::vector<uint32_t> rank(splits_.size());
  for (size_t i = 0; i < split_order.size(); ++i) rank[split_order[i]] = static_cast<uint32_t>(i);
  std::vector<uint32_t> order(identities_.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    const ArrivedIdentity &x = identities_[a], &y = identities_[b];
    return rank[x.split] != rank[y.split] ? rank[x.split] < rank[y.split] : x.name < y.name;
  });
  return order;
}

void EntryCollector::SortSamples(const std::vector<uint32_t>& identity_order) {
  // Counting sort by identity, then each identity's few samples by key.
  std::vector<uint64_t> next(identities_.size());
  uint64_t first = 0;
  for (const uint32_t identity : identity_order) {
    next[identity] = first;
    first += identities_[identity].samples;
  }
  order_.resize(samples_.size());
  for (uint64_t i = 0; i < samples_.size(); ++i) order_[next[samples_[i].identity]++] = i;

  uint64_t kept = 0, begin = 0;
  for (const uint32_t identity : identity_order) {
    const uint64_t end = next[identity];
    std::sort(order_.begin() + begin, order_.begin() + end, [this](uint64_t a, uint64_t b) {
      const Sample &x = samples_[a], &y = samples_[b];
      return std::make_tuple(x.key(), x.source, x.offset) < std::make_tuple(y.key(), y.source, y.offset);
    });
    Identity& range = sorted_identities_.emplace_back();
    range.name = identities_[identity].name;
    range.first = kept;
    for (uint64_t i = begin; i < end; ++i) {
      const Sample& sample = samples_[order_[i]];
      if (kept > range.first && samples_[order_[kept - 1]].key() == sample.key()) {
        duplicates_.push_back(sample);
      } else {
        order_[kept++] = order_[i];
      }
    }
    range.end = kept;
    begin = end;
  }
  order_.resize(kept);
}

void EntryCollector::Sort() {
  NameTheUnnamedSplit();
  const std::vector<uint32_t> split_order = SplitOrder();
  const std::vector<uint32_t> identity_order = IdentityOrder(split_order);
  sorted_identities_.reserve(identity_order.size());
  SortSamples(identity_order);
  uint64_t next = 0;
  for (const uint32_t arrived : split_order) {
    Split& split = sorted_splits_.emplace_back();
    split.name = splits_[arrived].name;
    split.first_identity = next;
    split.identities = splits_[arrived].identities.size();
    next += split.identities;
    const uint64_t end = next == sorted_identities_.size() ? order_.size() : sorted_identities_[next].first;
    split.samples = end - sorted_identities_[split.first_identity].first;
  }
}

}  // namespace doppel
