#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "miner/clustering/clusterer.h"

namespace doppel {

// How the subspaces of a new clustering go on from those of the previous one.
struct SubspaceAlignment {
  // [M_new]: the number that each new subspace gets, a permutation of [0, M_new). A subspace that continues a
  // previous one has that one's number, unless it is M_new or higher.
  std::vector<int32_t> number;
  // [M_new], by the number before renumbering: the previous subspace that it continues, or -1.
  std::vector<int32_t> continues;
  int64_t compared = 0;  // rows that had a subspace before and have one now
  int64_t kept = 0;      // of these, rows whose subspace continues the one they had
  // Share of the compared rows that changed; 0 if there are none.
  double churn() const { return compared == 0 ? 0 : 1 - static_cast<double>(kept) / compared; }
};

// Matches new subspaces to previous ones so that as many rows as possible stay (maximum weight matching on
// the overlap counts; Kuhn 1955, by shortest augmenting paths over the overlaps that there are). Exact while
// both sides have at most kExactAlignment subspaces; above that each subspace is matched among the 16 it
// overlaps with most. Both assignments are by the same rows; -1 means that a row has none (a new identity).
// Other values lie in [0, previous_subspaces) and [0, subspaces). Pure.
constexpr int32_t kExactAlignment = 2048;
SubspaceAlignment AlignSubspaces(absl::Span<const int32_t> previous, int32_t previous_subspaces,
                                 absl::Span<const int32_t> assignment, int32_t subspaces);

// Gives every subspace of `result` the number that the alignment has for it.
void Renumber(const SubspaceAlignment& alignment, ClusterResult& result);

// Normalised mutual information of two partitions of the same rows, with the arithmetic mean of the entropies
// (as scikit-learn has it): 1 the same up to numbering, 0 independent. Rows that are -1 in either are left
// out. 1 if both put everything into one subspace, 0 if there are no rows.
double NormalizedMutualInformation(absl::Span<const int32_t> a, absl::Span<const int32_t> b);

}  // namespace doppel
