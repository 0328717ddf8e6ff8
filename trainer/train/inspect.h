#pragma once

#include <torch/types.h>

#include "absl/types/span.h"
#include "trainer/loss/distance.h"
#include "trainer/loss/loss.h"
#include "trainer/train/snapshot.h"

namespace doppel {

// embeddings: [B, D] of a step's last batch, one identity per row. Changes nothing. At most `triplets` of the
// hardest.
StepSnapshot InspectBatch(const torch::Tensor& embeddings, absl::Span<const int64_t> identities,
                          Distance distance, size_t triplets);

// Of every tensor, by name.
std::vector<std::pair<std::string, Histogram>> InspectWeights(const NamedTensors& parameters);

}  // namespace doppel
