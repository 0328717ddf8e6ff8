#pragma once

#include <torch/types.h>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace doppel {

// kEuclidean: sqrt(sum + 1e-12), so that the gradient at 0 is 0 and not NaN (identical images in a batch are
// common). kCosine: 1 - cos; a zero vector has cosine 0 with everything.
enum class Distance { kEuclidean, kSquaredEuclidean, kCosine };

// "euclidean", "squared", "cosine".
absl::StatusOr<Distance> ParseDistance(absl::string_view name);
absl::string_view DistanceName(Distance distance);

// [B, D] → [B, B] through one matrix product. For selection: fast, but close pairs lose digits to
// cancellation.
torch::Tensor PairwiseDistances(const torch::Tensor& embeddings, Distance distance);

// The distance of rows first[i] and second[i], computed from their difference: exact and differentiable.
// int64 [n].
torch::Tensor PairDistances(const torch::Tensor& embeddings, const torch::Tensor& first,
                            const torch::Tensor& second, Distance distance);

// [A, D] and [C, D] → [A, C], from differences: exact and differentiable, but several times slower than
// PairwiseDistances.
torch::Tensor ExactDistances(const torch::Tensor& rows, const torch::Tensor& columns, Distance distance);

}  // namespace doppel
