#pragma once

#include <memory>

#include "miner/clustering/clusterer.h"

namespace doppel {

// FAISS' k-means, spherical, on every row: FAISS seeds, updates the centroids and splits for empty ones, and
// asks NearestCentroids for the assignment.
//
// INVALID_ARGUMENT: no rows, no row but zeros, a row that is neither of unit length nor zeros (NaN,
// infinity), options below 1. CANCELLED: on_iteration said so. Rows of zeros (identities without a
// representation) train nothing; they go to subspace 0 with similarity 0. As many subspaces as rows, or more:
// every row is its own centroid, equal rows share one. Subspaces that end empty are dropped and counted in
// `merged` even if min_size is 0.
//
// The result does not depend on `threads` (0: as OpenMP has it). On a processor without FMA sums differ in
// their last bits, so a row between two centroids may flip there, and with it all that follows: what is kept
// is the assignment itself, never the recipe to recompute it.
std::unique_ptr<Clusterer> MakeFaissClusterer();

}  // namespace doppel
