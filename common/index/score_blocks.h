#pragma once

#include <cstdint>
#include <functional>

#include "absl/types/span.h"

namespace doppel {

// A rectangle of the matrix of inner products.
struct ScoreBlock {
  int64_t first_query = 0;
  int64_t queries = 0;
  int64_t first_vector = 0;
  int64_t vectors = 0;
  const float* scores = nullptr;  // [queries, vectors]
  absl::Span<const float> row(int64_t query) const {
    return {scores + query * vectors, static_cast<size_t>(vectors)};
  }
};

// All inner products of `queries` [n, dimension] with `vectors` [m, dimension], block by block: for each
// block of queries those of vectors in ascending order. The n × m matrix is never there as a whole. `visit`
// runs on the calling thread. Products run on the BLAS' own threads.
void ForEachScoreBlock(absl::Span<const float> queries, absl::Span<const float> vectors, int dimension,
                       const std::function<void(const ScoreBlock&)>& visit);

}  // namespace doppel
