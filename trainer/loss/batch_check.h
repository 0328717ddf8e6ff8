#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace doppel {

// Rows of one identity, in rising order; groups in order of first appearance.
std::vector<std::vector<int64_t>> GroupByIdentity(absl::Span<const int64_t> identities);

// [B, D] floating point, one identity per row, all finite. INVALID_ARGUMENT otherwise.
absl::Status CheckEmbeddings(const torch::Tensor& embeddings, absl::Span<const int64_t> identities);

// At least two identities, one of them with two samples: without that there is no triplet.
absl::Status CheckHasTriplets(absl::Span<const int64_t> identities);

}  // namespace doppel
