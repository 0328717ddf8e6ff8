#include "services/miner_server/similarity.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <limits>
#include <vector>

#include "services/miner_server/similarity_kernel.h"

namespace doppel {
namespace {

// Few pairs are not worth the packing.
constexpr size_t kFewRows = 8;
// They lie anywhere: each would wait for the memory.
constexpr size_t kRowsAhead = 6;

void PrefetchRow(absl::Span<const float> row) {
  constexpr size_t kLine = 64 / sizeof(float);
  for (size_t i = 0; i < row.size(); i += kLine) __builtin_prefetch(row.data() + i);
}

float Dot(absl::Span<const float> a, absl::Span<const float> b) {
  constexpr size_t kLanes = 8;  // a fixed shape that the compiler turns into vectors
  std::array<float, kLanes> sums{};
  size_t i = 0;
  for (; i + kLanes <= a.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  float sum = 0;
  for (float lane : sums) sum += lane;
  for (; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

struct Pair {
  size_t first = 0, second = 1;
};

// The one with the greatest product of the fixed-point vectors: whole numbers, so the same pair whatever the
// order of summing, the earliest if there are several.
class ClosestPair {
 public:
  explicit ClosestPair(const std::vector<absl::Span<const float>>& rows)
      : kernel_(SimilarityKernelOfThisProcessor()),
        rows_(rows.size()),
        pairs_of_dimensions_((rows[0].size() + 1) / 2),
        panels_((rows.size() + kSimilarityWidth - 1) / kSimilarityWidth),
        packed_(panels_ * pairs_of_dimensions_ * kSimilarityWidth) {
    std::vector<int16_t> fixed(2 * pairs_of_dimensions_);
    for (size_t i = 0; i < rows.size(); ++i) {
      ToFixedPoint(rows[i].data(), rows[i].size(), fixed.data());
      uint32_t* const column = Panel(i / kSimilarityWidth) + i % kSimilarityWidth;
      for (size_t d = 0; d < pairs_of_dimensions_; ++d) {
        std::memcpy(&column[d * kSimilarityWidth], &fixed[2 * d], sizeof(uint32_t));
      }
    }
  }

  Pair Find() {
    alignas(64) std::array<int32_t, kSimilarityRows * kSimilarityWidth> scores;
    for (size_t begin = 0; begin < rows_; begin += kSimilarityRows) {
      // Rows of the last group that are not there are zeros of the packing.
      const uint32_t* const group = Panel(begin / kSimilarityWidth) + begin % kSimilarityWidth;
      for (size_t panel = begin / kSimilarityWidth; panel < panels_; ++panel) {
        if (!kernel_(group, Panel(panel), pairs_of_dimensions_, most_, scores.data())) continue;
        for (size_t r = 0; r < kSimilarityRows; ++r) {
          Look(begin + r, panel * kSimilarityWidth, &scores[r * kSimilarityWidth]);
        }
      }
    }
    return best_;
  }

 private:
  uint32_t* Panel(size_t panel) { return &packed_[panel * pairs_of_dimensions_ * kSimilarityWidth]; }

  // Row i against the columns from `first` on.
  void Look(size_t i, size_t first, const int32_t* scores) {
    const size_t begin = i >= first ? i + 1 - first : 0;
    const size_t end = std::min(kSimilarityWidth, rows_ - first);
    if (begin >= end) return;
    int32_t most = scores[begin];
    for (size_t c = begin + 1; c < end; ++c) most = std::max(most, scores[c]);
    if (most < most_) return;
    const size_t j = first + static_cast<size_t>(std::find(scores + begin, scores + end, most) - scores);
    if (most == most_ && (best_.first < i || (best_.first == i && best_.second < j))) return;
    most_ = most;
    best_ = {i, j};
  }

  const SimilarityKernel kernel_;
  const size_t rows_;
  const size_t pairs_of_dimensions_;
  const size_t panels_;
  std::vector<uint32_t> packed_;  // [panels][pairs of dimensions][width], a dimension in each half
  int32_t most_ = std::numeric_limits<int32_t>::min();
  Pair best_;
};

float MaximumOfAll(const std::vector<absl::Span<const float>>& rows) {
  float max = -1;
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t j = i + 1; j < rows.size(); ++j) max = std::max(max, Dot(rows[i], rows[j]));
  }
  return max;
}

// Of all pairs together: |Σv|² = Σ|v|² + 2 Σ v·w.
float MeanOfAll(const std::vector<absl::Span<const float>>& rows) {
  const size_t dimension = rows[0].size();
  std::vector<float> sums(2 * dimension, 0.0F);
  for (size_t i = 0; i < rows.size(); ++i) {
    if (i + kRowsAhead < rows.size()) PrefetchRow(rows[i + kRowsAhead]);
    AddRow(rows[i].data(), dimension, sums.data(), &sums[dimension]);
  }
  double square_of_sum = 0, squares = 0;
  for (size_t d = 0; d < dimension; ++d) {
    square_of_sum += double{sums[d]} * sums[d];
    squares += sums[dimension + d];
  }
  const auto n = static_cast<double>(rows.size());
  return static_cast<float>((square_of_sum - squares) / (n * (n - 1)));
}

}  // namespace

SimilarityStatistics BatchSimilarity(const Generation* generation, absl::Span<const uint64_t> identities) {
  SimilarityStatistics statistics;
  if (generation == nullptr || generation->dimension() <= 0) return statistics;
  std::vector<absl::Span<const float>> rows;
  rows.reserve(identities.size());
  for (uint64_t identity : identities) {
    if (generation->Covers(identity)) rows.push_back(generation->Representation(identity));
  }
  if (rows.size() < 2) return statistics;
  statistics.mean = MeanOfAll(rows);
  if (rows.size() < kFewRows) {
    statistics.max = MaximumOfAll(rows);
  } else {
    const Pair closest = ClosestPair(rows).Find();
    statistics.max = Dot(rows[closest.first], rows[closest.second]);
  }
  return statistics;
}

}  // namespace doppel
