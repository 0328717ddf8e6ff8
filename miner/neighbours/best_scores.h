#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

namespace doppel {

struct ScoredRow {
  float score;
  uint32_t row;
};

inline bool BetterScore(const ScoredRow& a, const ScoredRow& b) {
  return a.score > b.score || (a.score == b.score && a.row < b.row);
}

// For each of N rows the `wanted` best of what was offered: a total order, so it does not matter in which
// sequence. Offers go to a buffer of `wanted` and as many again, which is cut back when it is full. Offers
// for different rows may come from different threads.
class BestScores {
 public:
  BestScores(int64_t rows, int64_t wanted)
      : wanted_(wanted),
        capacity_(2 * wanted),
        entries_(static_cast<size_t>(rows * capacity_)),
        sizes_(static_cast<size_t>(rows), 0),
        bounds_(static_cast<size_t>(rows), -std::numeric_limits<float>::infinity()) {}

  // Lower scores are refused. [rows]
  const float* bounds() const { return bounds_.data(); }

  void Offer(int64_t row, ScoredRow candidate) {
    if (candidate.score < bounds_[row]) return;
    ScoredRow* entries = &entries_[row * capacity_];
    entries[sizes_[row]++] = candidate;
    if (sizes_[row] == capacity_) Cut(row);
  }

  // Those of a row, in no order; the caller may change them.
  ScoredRow* Best(int64_t row, int64_t* count) {
    if (sizes_[row] > wanted_) Cut(row);
    *count = sizes_[row];
    return &entries_[row * capacity_];
  }

 private:
  void Cut(int64_t row) {
    ScoredRow* entries = &entries_[row * capacity_];
    std::nth_element(entries, entries + wanted_ - 1, entries + sizes_[row], BetterScore);
    sizes_[row] = static_cast<int32_t>(wanted_);
    bounds_[row] = entries[wanted_ - 1].score;
  }

  const int64_t wanted_;
  const int64_t capacity_;
  std::vector<ScoredRow> entries_;  // [rows, capacity]
  std::vector<int32_t> sizes_;      // [rows]
  std::vector<float> bounds_;       // [rows], the worst that is kept since the last cut
};

}  // namespace doppel
