#pragma once

#include <cstdint>
#include <vector>

namespace doppel {

// Identities and the rows of what is kept for them: a few ranges, ascending, in which row r is the r-th
// identity. One range unless later versions of a catalog added to a split that others lie behind. Immutable
// but for Append; O(1) for one range, else O(log ranges).
class IdentityRows {
 public:
  struct Range {
    uint64_t first = 0;
    uint64_t count = 0;
    uint64_t row = 0;  // of the first one
    bool operator==(const Range& other) const { return first == other.first && count == other.count; }
  };
  static constexpr uint64_t kNone = ~uint64_t{0};

  IdentityRows() = default;
  IdentityRows(uint64_t first, uint64_t count) { Append(first, count); }
  // Precondition: first ≥ end(). Ranges that touch become one.
  void Append(uint64_t first, uint64_t count) {
    if (count == 0) return;
    if (!ranges_.empty() && first == end()) {
      ranges_.back().count += count;
    } else {
      ranges_.push_back({first, count, size_});
    }
    size_ += count;
  }

  uint64_t size() const { return size_; }
  // The lowest, and one past the highest; 0 if there is none.
  uint64_t first() const { return ranges_.empty() ? 0 : ranges_.front().first; }
  uint64_t end() const { return ranges_.empty() ? 0 : ranges_.back().first + ranges_.back().count; }
  const std::vector<Range>& ranges() const { return ranges_; }

  // Precondition: row < size().
  uint64_t Identity(uint64_t row) const {
    const Range* range = ranges_.data();
    if (row >= range->count) range = Find([row](const Range& at) { return at.row <= row; });
    return range->first + (row - range->row);
  }
  // kNone: not one of them.
  uint64_t Row(uint64_t identity) const {
    if (ranges_.empty()) return kNone;
    const Range* range = ranges_.data();
    if (ranges_.size() > 1 && identity >= range->first + range->count)
      range = Find([identity](const Range& at) { return at.first <= identity; });
    // Below the first one it wraps around.
    const uint64_t offset = identity - range->first;
    return offset < range->count ? range->row + offset : kNone;
  }
  bool Contains(uint64_t identity) const { return Row(identity) != kNone; }

  bool operator==(const IdentityRows& other) const { return ranges_ == other.ranges_; }
  bool operator!=(const IdentityRows& other) const { return !(*this == other); }

 private:
  // The last range of those, at the front, that `begins` accepts. Precondition: it accepts the first.
  template <typename Begins>
  const Range* Find(const Begins& begins) const {
    size_t low = 0, high = ranges_.size();
    while (high - low > 1) {
      const size_t middle = low + (high - low) / 2;
      (begins(ranges_[middle]) ? low : high) = middle;
    }
    return &ranges_[low];
  }

  std::vector<Range> ranges_;
  uint64_t size_ = 0;
};

}  // namespace doppel
