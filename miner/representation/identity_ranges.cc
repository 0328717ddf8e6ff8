#include "miner/representation/identity_ranges.h"

#include <algorithm>
#include <iterator>

namespace doppel {

uint64_t IdentityRanges::Add(IdentityRange range) {
  if (range.count == 0) return 0;
  uint64_t first = range.first;
  uint64_t end = range.end();
  uint64_t swallowed = 0;
  auto it = ends_.upper_bound(first);
  if (it != ends_.begin() && std::prev(it)->second >= first) --it;
  while (it != ends_.end() && it->first <= end) {
    first = std::min(first, it->first);
    end = std::max(end, it->second);
    swallowed += it->second - it->first;
    it = ends_.erase(it);
  }
  ends_[first] = end;
  const uint64_t added = end - first - swallowed;
  size_ += added;
  return added;
}

std::vector<IdentityRange> IdentityRanges::Missing(IdentityRange within) const {
  std::vector<IdentityRange> missing;
  uint64_t at = within.first;
  auto it = ends_.upper_bound(at);
  if (it != ends_.begin()) at = std::max(at, std::prev(it)->second);
  for (; it != ends_.end() && it->first < within.end(); ++it) {
    if (at < it->first) missing.push_back({at, it->first - at});
    at = it->second;
  }
  if (at < within.end()) missing.push_back({at, within.end() - at});
  return missing;
}

bool IdentityRanges::Contains(IdentityRange range) const {
  if (range.count == 0) return true;
  auto it = ends_.upper_bound(range.first);
  return it != ends_.begin() && std::prev(it)->second >= range.end();
}

}  // namespace doppel
