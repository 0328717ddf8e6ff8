#pragma once

#include <cstdint>

#include "miner/clustering/clusterer.h"
#include "miner/clustering/row_view.h"

namespace doppel {

// Bounds on the sizes of subspaces; see ClusterOptions.
struct SizeBounds {
  int64_t min_size = 1;
  int64_t max_size = 0;
  double balance = 0;
};

// First balances, then merges, then splits. `result` is by the rows of the view. Pure.
void BalanceSubspaces(const RowView& rows, const SizeBounds& bounds, int threads, ClusterResult* result);

// While a subspace has more than `capacity` rows: those that lose least by it go to the subspace with room
// that is most similar to them. Centroids stay; similarities follow; `moved` grows. Does nothing where
// capacity times the number of subspaces is less than the rows.
void LimitSubspaces(const RowView& rows, int64_t capacity, int threads, ClusterResult* result);

// Subspaces with fewer than min_size rows (and empty ones in any case) are merged away, the smallest first,
// each into the remaining one with the most similar centroid, until none is too small or one is left. The
// receiver's centroid becomes the mean of its rows, scaled to unit length; its rows' similarities follow. The
// remaining subspaces keep their order and are numbered anew; `merged` grows by how many went. Ties: the
// lower number.
void MergeSmallSubspaces(const RowView& rows, int64_t min_size, ClusterResult* result);

// Subspaces with more than max_size rows are split into ⌈size / max_size⌉ parts of at least min_size rows
// each (max_size ≥ 2 * min_size), by bisection: across the line between two rows that are far apart, where
// two-means puts the border unless the sizes do not allow it. The first part keeps the number, the others
// come after all subspaces; `split` grows by how many. Centroids are the means, scaled to unit length.
void SplitLargeSubspaces(const RowView& rows, int64_t min_size, int64_t max_size, ClusterResult* result);

}  // namespace doppel
