#pragma once

#include <cstdint>
#include <map>
#include <vector>

namespace doppel {

// Identities [first, first + count).
struct IdentityRange {
  uint64_t first = 0;
  uint64_t count = 0;
  uint64_t end() const { return first + count; }
  bool operator==(const IdentityRange& other) const { return first == other.first && count == other.count; }
};

// A set of identities, kept as disjoint ranges that do not touch. Not thread-safe.
class IdentityRanges {
 public:
  // Returns how many of them were new. first + count must not overflow.
  uint64_t Add(IdentityRange range);
  // The parts of `within` that are not in the set, ascending.
  std::vector<IdentityRange> Missing(IdentityRange within) const;
  // An empty range is contained in every set.
  bool Contains(IdentityRange range) const;
  // Identities in the set.
  uint64_t size() const { return size_; }

 private:
  std::map<uint64_t, uint64_t> ends_;  // first → end
  uint64_t size_ = 0;
};

}  // namespace doppel
