#include "common/index/score_blocks.h"

#include <cblas.h>

#include <algorithm>
#include <vector>

namespace doppel {
namespace {

// 8 MB of scores: they are read again while they are still in the cache.
constexpr int64_t kQueries = 512;
constexpr int64_t kVectors = 4096;

}  // namespace

void ForEachScoreBlock(absl::Span<const float> queries, absl::Span<const float> vectors, int dimension,
                       const std::function<void(const ScoreBlock&)>& visit) {
  const int64_t n = static_cast<int64_t>(queries.size()) / dimension;
  const int64_t m = static_cast<int64_t>(vectors.size()) / dimension;
  std::vector<float> scores(static_cast<size_t>(std::min(n, kQueries) * std::min(m, kVectors)));
  ScoreBlock block;
  block.scores = scores.data();
  for (block.first_query = 0; block.first_query < n; block.first_query += kQueries) {
    block.queries = std::min(kQueries, n - block.first_query);
    for (block.first_vector = 0; block.first_vector < m; block.first_vector += kVectors) {
      block.vectors = std::min(kVectors, m - block.first_vector);
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(block.queries),
                  static_cast<int>(block.vectors), dimension, 1.0F,
                  queries.data() + block.first_query * dimension, dimension,
                  vectors.data() + block.first_vector * dimension, dimension, 0.0F, scores.data(),
                  static_cast<int>(block.vectors));
      visit(block);
    }
  }
}

}  // namespace doppel
