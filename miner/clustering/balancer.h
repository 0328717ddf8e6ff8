#pragma once

#include <cstdint>

#include "miner/clustering/clusterer.h"

namespace doppel {

// Subspaces with fewer than min_size rows (and empty ones in any case) are merged away, the smallest first,
// each into the remaining one with the most similar centroid, until none is too small or one is left. The
// receiver's centroid becomes the mean of its rows, scaled to unit length; its rows' similarities follow. The
// remaining subspaces keep their order and are numbered anew; `merged` grows by how many went. Ties: the
// lower number. Pure.
ClusterResult MergeSmallSubspaces(const Matrix& rows, ClusterResult result, int64_t min_size);

}  // namespace doppel
