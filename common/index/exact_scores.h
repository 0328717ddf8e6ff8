#pragma once

#include <cstdint>
#include <functional>

#include "absl/types/span.h"

namespace doppel {

// How close a query is to a vector: the greater, the closer. Both are sums of products of floats, which
// double holds without rounding, taken in the order of the dimensions: a score depends on its two vectors
// alone, not on blocks, threads or the processor's instruction set, and equal vectors have equal scores.
enum class Similarity {
  kInnerProduct,  // cosine similarity if all vectors are L2-normalised
  kEuclidean,     // q·v - |v|²/2 = (|q|² - |q - v|²)/2: for one query the order of ascending distance
};

// The score of one pair.
double ExactScore(const float* query, const float* vector, int dimension, Similarity similarity);

// The scores of one query with these rows of `vectors`, as ExactScore has them: out[rows.size()].
void ExactScores(const float* query, absl::Span<const float> vectors, int dimension, Similarity similarity,
                 absl::Span<const int64_t> rows, double* out);

// A rectangle of the matrix of exact scores.
struct ScoreTile {
  int64_t first_query = 0;
  int64_t queries = 0;
  int64_t first_vector = 0;
  int64_t vectors = 0;
  int64_t stride = 0;
  const double* scores = nullptr;  // [queries, stride], the first `vectors` of a row are valid
  absl::Span<const double> row(int64_t query) const {
    return {scores + query * stride, static_cast<size_t>(vectors)};
  }
};

struct ScoreTileOptions {
  Similarity similarity = Similarity::kInnerProduct;
  int threads = 1;
  int64_t max_queries = 256;  // in a tile; what a visitor keeps per query may call for fewer
  // Only tiles with a pair (q, v), v > q: the set against itself, every unordered pair at least once.
  bool upper_triangle = false;
};

// All scores of `queries` [n, dimension] with `vectors` [m, dimension], tile by tile; the n × m matrix is
// never there as a whole. Tiles of the same queries are visited by one thread, vectors ascending; those of
// other queries at the same time by other threads. Memory: some MB per thread.
void ForEachScoreTile(absl::Span<const float> queries, absl::Span<const float> vectors, int dimension,
                      const ScoreTileOptions& options, const std::function<void(const ScoreTile&)>& visit);

// How many of them are greater than the bound.
int64_t CountAbove(absl::Span<const double> scores, double bound);

}  // namespace doppel
