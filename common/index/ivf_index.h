#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/index/vector_index.h"

namespace doppel {

struct IvfOptions {
  int lists = 0;    // cells of the inverted file; 0: 4 √n
  int probes = 16;  // cells that a query visits, those with the nearest centroids
  int threads = 1;
  uint64_t seed = 1;  // of the k-means that makes the cells
};

// Compares a query only with the vectors of its nearest cells (FAISS IndexIVFFlat by inner product), so that
// a few of the true neighbours may be missed; with probes = lists none is. Vectors are copied, and `vectors`
// must still outlive the index. Scores are summed anew as those of MakeExactIndex, and ties go to the lower
// id. INVALID_ARGUMENT: the sizes do not fit, or there are fewer vectors than lists. RESOURCE_EXHAUSTED:
// memory.
absl::StatusOr<std::unique_ptr<VectorIndex>> MakeIvfIndex(absl::Span<const float> vectors, int dimension,
                                                          const IvfOptions& options);

}  // namespace doppel
