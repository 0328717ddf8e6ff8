#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace doppel {

struct LossInput;

// Rows of one identity, in rising order; groups in order of first appearance.
std::vector<std::vector<int64_t>> GroupByIdentity(absl::Span<const int64_t> identities);

// [B, D] floating point, one identity per row, all finite. INVALID_ARGUMENT otherwise.
absl::Status CheckEmbeddings(const torch::Tensor& embeddings, absl::Span<const int64_t> identities);

// At least two identities, one of them with two samples: without that there is no triplet.
absl::Status CheckHasTriplets(absl::Span<const int64_t> identities);

// All of a LossInput: embeddings, mask (bool [B, B], symmetric), memory (as wide as the embeddings, finite),
// and that some row of the batch has a positive and some other identity is there, the memory included.
// INVALID_ARGUMENT otherwise.
absl::Status CheckInput(const LossInput& input);

// INVALID_ARGUMENT that names the loss if the input has a memory, which the loss has no use for.
absl::Status CheckNoMemory(const LossInput& input, absl::string_view loss);

}  // namespace doppel
