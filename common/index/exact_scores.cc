#include "common/index/exact_scores.h"

#include <algorithm>
#include <vector>

#include "common/base/executor.h"
#include "common/index/exact_scores_kernel.h"

namespace doppel {
namespace {

constexpr int64_t kTileBytes = 256 << 10;  // of packed vectors: they stay in the second-level cache
constexpr int kAtOnce = 8;                 // rows of ExactScores whose sums grow side by side

struct PortableScores {
  using Doubles = double;
  static constexpr int kLanes = 1;
  static Doubles Load(const double* p) { return *p; }
  static void Store(double* p, Doubles x) { *p = x; }
  static Doubles Broadcast(double x) { return x; }
  static Doubles MultiplyAdd(Doubles a, Doubles b, Doubles c) { return c + a * b; }
  static int CountGreater(Doubles a, Doubles b) { return a > b ? 1 : 0; }
};

ExactScoreKernel KernelOfThisProcessor() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return ExactScoresAvx512();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return ExactScoresAvx2();
#endif
  return {4, 4, RunExactScores<PortableScores, 4, 4>, CountAboveBound<PortableScores>};
}

double HalfNorm(const float* vector, int dimension) {
  double sum = 0;
  for (int d = 0; d < dimension; ++d) sum += static_cast<double>(vector[d]) * static_cast<double>(vector[d]);
  return sum / 2;
}

// Rows side by side, filled up with zeros: [groups][dimension][width].
void Interleave(const float* rows, int64_t n, int dimension, int width, double* out) {
  for (int64_t first = 0; first < n; first += width, out += int64_t{width} * dimension) {
    const int present = static_cast<int>(std::min<int64_t>(width, n - first));
    const float* source = rows + first * dimension;
    for (int d = 0; d < dimension; ++d) {
      double* line = out + int64_t{d} * width;
      for (int lane = 0; lane < present; ++lane) {
        line[lane] = static_cast<double>(source[int64_t{lane} * dimension + d]);
      }
      for (int lane = present; lane < width; ++lane) line[lane] = 0;
    }
  }
}

int64_t RoundUp(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// What one thread works on: packed queries, one tile of packed vectors, and their scores.
class TileWorker {
 public:
  TileWorker(absl::Span<const float> queries, absl::Span<const float> vectors, int dimension,
             const ScoreTileOptions& options, const ExactScoreKernel& kernel)
      : queries_(queries),
        vectors_(vectors),
        dimension_(dimension),
        options_(options),
        kernel_(kernel),
        size_(static_cast<int64_t>(vectors.size()) / dimension),
        tile_vectors_(TileVectors()) {}

  void Run(int64_t first, int64_t end, const std::function<void(const ScoreTile&)>& visit) {
    ScoreTile tile;
    tile.first_query = first;
    tile.queries = end - first;
    tile.stride = tile_vectors_;
    packed_queries_.resize(RoundUp(tile.queries, kernel_.rows) * dimension_);
    Interleave(&queries_[first * dimension_], tile.queries, dimension_, kernel_.rows, packed_queries_.data());
    packed_vectors_.resize(tile_vectors_ * dimension_);
    scores_.resize(RoundUp(tile.queries, kernel_.rows) * tile_vectors_);
    tile.scores = scores_.data();
    const int64_t start = options_.upper_triangle ? (first + 1) / tile_vectors_ * tile_vectors_ : 0;
    for (tile.first_vector = start; tile.first_vector < size_; tile.first_vector += tile_vectors_) {
      tile.vectors = std::min(tile_vectors_, size_ - tile.first_vector);
      Fill(tile);
      visit(tile);
    }
  }

 private:
  int64_t TileVectors() const {
    const int64_t fit = kTileBytes / (int64_t{dimension_} * static_cast<int64_t>(sizeof(double)));
    const int64_t bounded = std::min(std::clamp<int64_t>(fit, kernel_.width, 1024), size_);
    return RoundUp(bounded, kernel_.width);
  }

  void Fill(const ScoreTile& tile) {
    Interleave(&vectors_[tile.first_vector * dimension_], tile.vectors, dimension_, kernel_.width,
               packed_vectors_.data());
    for (int64_t v = 0; v < tile.vectors; v += kernel_.width) {
      for (int64_t q = 0; q < tile.queries; q += kernel_.rows) {
        kernel_.run(&packed_queries_[q * dimension_], &packed_vectors_[v * dimension_], dimension_,
                    &scores_[q * tile_vectors_ + v], tile_vectors_);
      }
    }
    if (options_.similarity != Similarity::kEuclidean) return;
    half_norms_.resize(tile.vectors);
    for (int64_t v = 0; v < tile.vectors; ++v) {
      half_norms_[v] = HalfNorm(&vectors_[(tile.first_vector + v) * dimension_], dimension_);
    }
    for (int64_t q = 0; q < tile.queries; ++q) {
      double* row = &scores_[q * tile_vectors_];
      for (int64_t v = 0; v < tile.vectors; ++v) row[v] -= half_norms_[v];
    }
  }

  const absl::Span<const float> queries_;
  const absl::Span<const float> vectors_;
  const int dimension_;
  const ScoreTileOptions& options_;
  const ExactScoreKernel& kernel_;
  const int64_t size_;
  const int64_t tile_vectors_;
  std::vector<double> packed_queries_;
  std::vector<double> packed_vectors_;
  std::vector<double> scores_;
  std::vector<double> half_norms_;
};

}  // namespace

double ExactScore(const float* query, const float* vector, int dimension, Similarity similarity) {
  double sum = 0;
  for (int d = 0; d < dimension; ++d) sum += static_cast<double>(query[d]) * static_cast<double>(vector[d]);
  return similarity == Similarity::kEuclidean ? sum - HalfNorm(vector, dimension) : sum;
}

void ExactScores(const float* query, absl::Span<const float> vectors, int dimension, Similarity similarity,
                 absl::Span<const int64_t> rows, double* out) {
  size_t i = 0;
  for (; i + kAtOnce <= rows.size(); i += kAtOnce) {
    const float* vector[kAtOnce];
    double sum[kAtOnce] = {};
    for (int r = 0; r < kAtOnce; ++r) vector[r] = &vectors[rows[i + r] * dimension];
    for (int d = 0; d < dimension; ++d) {
      const auto x = static_cast<double>(query[d]);
      for (int r = 0; r < kAtOnce; ++r) sum[r] += x * static_cast<double>(vector[r][d]);
    }
    for (int r = 0; r < kAtOnce; ++r) {
      out[i + r] = similarity == Similarity::kEuclidean ? sum[r] - HalfNorm(vector[r], dimension) : sum[r];
    }
  }
  for (; i < rows.size(); ++i) {
    out[i] = ExactScore(query, &vectors[rows[i] * dimension], dimension, similarity);
  }
}

void ForEachScoreTile(absl::Span<const float> queries, absl::Span<const float> vectors, int dimension,
                      const ScoreTileOptions& options, const std::function<void(const ScoreTile&)>& visit) {
  const int64_t n = static_cast<int64_t>(queries.size()) / dimension;
  if (n == 0 || vectors.empty()) return;
  const ExactScoreKernel kernel = KernelOfThisProcessor();
  const int64_t threads = std::max(options.threads, 1);
  // Every thread gets several blocks, so that none waits long for the last.
  const int64_t fair = RoundUp(std::max<int64_t>(n / (threads * 4), 1), kernel.rows);
  const int64_t block = std::max<int64_t>(std::min(fair, options.max_queries), 1);
  ParallelFor(n, block, options.threads, [&](int64_t begin, int64_t end) {
    TileWorker(queries, vectors, dimension, options, kernel).Run(begin, end, visit);
  });
}

int64_t CountAbove(absl::Span<const double> scores, double bound) {
  static const ExactScoreKernel kernel = KernelOfThisProcessor();
  return kernel.count_above(scores.data(), static_cast<int64_t>(scores.size()), bound);
}

}  // namespace doppel
