#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/index/vector_index.h"
#include "trainer/eval/eval_data.h"

namespace doppel {

// Makes the index of the first step: exact, or an inverted file. `vectors` outlives it.
using IndexFactory = std::function<absl::StatusOr<std::unique_ptr<VectorIndex>>(
    absl::Span<const float> vectors, int dimension)>;

// Identities and their representations: the mean of the unit-length embeddings of an identity, itself of unit
// length (that of its first row if they cancel out).
struct IdentityMeans {
  std::vector<int64_t> labels;  // ascending
  std::vector<float> means;     // [labels, dimension]
};
// `data` is normalised.
IdentityMeans MeanPerIdentity(const EvalData& data);

struct TwoStepResult {
  // Of every query the t nearest identities: row-major [queries, t], by label; and the k nearest rows within
  // those. Rows that are not there have id -1 and score -infinity.
  SearchResult identities;
  SearchResult rows;
};

// The retrieval of "How to Train Triplet Networks with 100K Identities?" (arXiv 1709.02940): the nearest
// identities first, then the images inside those. Both by cosine; ties go to the lower label and the lower
// row. `data` and `queries` are normalised. Same result for any number of threads.
absl::StatusOr<TwoStepResult> SearchTwoSteps(const EvalData& data, absl::Span<const float> queries,
                                             int identities, int top, int threads,
                                             const IndexFactory& make_index);

}  // namespace doppel
