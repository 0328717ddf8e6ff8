#pragma once

#include "absl/types/span.h"
#include "doppel/v1/types.pb.h"
#include "miner/generation/generation_codec.h"
#include "miner/representation/matrix.h"

namespace doppel {

// Fills the fields of `info` that describe the clusters: subspaces, sizes, imbalance, radii, nearest
// subspaces. assignment and similarity are [N]; centroids [M, D] of unit length. Uses `threads` threads (0:
// one per core).
void DescribeSubspaces(const Matrix& centroids, absl::Span<const int32_t> assignment,
                       absl::Span<const float> similarity, int threads, v1::GenerationInfo& info);

// Fills lookalike_density and neighbours_inside of `info` and of its subspaces, which DescribeSubspaces has
// listed. Nothing if `contents` has no neighbours.
void DescribeNeighbours(const GenerationContents& contents, v1::GenerationInfo& info);

}  // namespace doppel
