#include "miner/cleaning/guard_list.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace doppel {

absl::StatusOr<GuardList> GuardList::Make(std::vector<Pair> pairs, std::vector<uint64_t> samples) {
  for (Pair& pair : pairs) {
    if (pair.first == pair.second) {
      return absl::InvalidArgumentError(
          absl::StrCat("guard list: identity ", pair.first, " is paired with itself"));
    }
    if (pair.first > pair.second) std::swap(pair.first, pair.second);
  }
  std::sort(pairs.begin(), pairs.end());
  pairs.erase(std::unique(pairs.begin(), pairs.end()), pairs.end());
  std::sort(samples.begin(), samples.end());
  samples.erase(std::unique(samples.begin(), samples.end()), samples.end());

  std::vector<Pair> directed;
  directed.reserve(2 * pairs.size());
  for (const Pair& pair : pairs) {
    directed.push_back(pair);
    directed.push_back({pair.second, pair.first});
  }
  std::sort(directed.begin(), directed.end());
  GuardList list;
  list.identities_.reserve(directed.size());
  list.partners_.reserve(directed.size());
  for (const Pair& pair : directed) {
    list.identities_.push_back(pair.first);
    list.partners_.push_back(pair.second);
  }
  list.pairs_ = std::move(pairs);
  list.samples_ = std::move(samples);
  return list;
}

bool GuardList::Guarded(uint64_t a, uint64_t b) const {
  const absl::Span<const uint32_t> partners = Partners(a);
  return std::binary_search(partners.begin(), partners.end(), b);
}

bool GuardList::Dropped(uint64_t sample) const {
  return std::binary_search(samples_.begin(), samples_.end(), sample);
}

absl::Span<const uint32_t> GuardList::Partners(uint64_t identity) const {
  const auto range = std::equal_range(identities_.begin(), identities_.end(), identity);
  return absl::MakeConstSpan(partners_.data() + (range.first - identities_.begin()),
                             static_cast<size_t>(range.second - range.first));
}

}  // namespace doppel
