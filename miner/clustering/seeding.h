#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "miner/clustering/clusterer.h"
#include "miner/clustering/row_view.h"

namespace doppel {

// The first centroids: [options.subspaces, D], unit length, from options.seeding or the warm start given.
// `rows` are of unit length and more than options.subspaces; initial_assignment is by the rows of the view's
// matrix. Independent of `threads`. INVALID_ARGUMENT: a warm start that does not fit the rows.
absl::StatusOr<Matrix> FirstCentroids(const RowView& rows, const ClusterOptions& options, int threads);

// What FAISS is given as its seed.
int FaissSeed(uint64_t seed);

}  // namespace doppel
