#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace doppel {

// The k best of every query, row-major [queries, k], best first. A row is filled up with id -1 and score
// -infinity if there are fewer vectors, or if scores are not numbers.
struct SearchResult {
  int64_t queries = 0;
  int k = 0;
  std::vector<int64_t> ids;
  std::vector<float> scores;
};

// Nearest neighbours of float32 vectors by inner product (cosine similarity if all are L2-normalised).
// Thread-safe.
class VectorIndex {
 public:
  virtual ~VectorIndex() = default;
  virtual int64_t size() const = 0;
  virtual int dimension() const = 0;
  // queries: [n, dimension]. k ≥ 1. Of equal scores the lower id goes first. INVALID_ARGUMENT if the sizes do
  // not fit.
  virtual absl::StatusOr<SearchResult> Search(absl::Span<const float> queries, int k) const = 0;
};

// Compares with every vector, in blocks: memory is that of the result and some MB. `vectors`, [n, dimension],
// is not owned and must outlive the index. Products run on the BLAS' own threads, selection on `threads`.
// Scores are summed anew in a fixed order, so that equal vectors have equal scores, and neither blocks nor
// threads show in the result.
absl::StatusOr<std::unique_ptr<VectorIndex>> MakeExactIndex(absl::Span<const float> vectors, int dimension,
                                                            int threads);

}  // namespace doppel
