#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "miner/clustering/clusterer.h"
#include "miner/clustering/row_view.h"

namespace doppel {

// What faiss::Clustering does, spherical and on all rows, from the given first centroids ([M, D], unit
// length): assign every row to the centroid with the highest product, move every centroid to the direction of
// its rows' sum, and give a centroid without rows half of the largest one's. Fills centroids, assignment,
// similarity and objective.
//
// Faster by what it does not do. A row's product with its own centroid can fall, and with any other can rise,
// by no more than that centroid has moved; while the bounds kept of them do not cross, the row is settled and
// not looked at (Hamerly, SDM 2010; by groups of neighbouring centroids, Ding et al., ICML 2015). Sums change
// by the rows that moved only. The bounds allow for rounding, so the assignments are those without bounds.
// Stops before `options.iterations` where no row moves any more, and by options.tolerance.
//
// The memory beyond the rows: 8 bytes a row and 4 per group, of which there are at most 16 and at most D / 8.
// Bits do not depend on `threads`. CANCELLED by on_iteration.
absl::Status RunLloyd(const RowView& rows, Matrix first, const ClusterOptions& options, int threads,
                      ClusterResult* result);

// The same for a very large M: rows are first clustered into about √M cells, then each cell by itself into
// its share of M. Half of the iterations go to the first level. Seeds by k-means++ throughout.
absl::Status RunTwoLevels(const RowView& rows, const ClusterOptions& options, int threads,
                          ClusterResult* result);

// Whether the last iteration improved the objective by less than `tolerance` of it.
bool HasConverged(const std::vector<double>& objective, double tolerance);

}  // namespace doppel
