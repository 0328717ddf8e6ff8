#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "miner/generation/generation.h"

namespace doppel {

struct SimilarityStatistics {
  float mean = 0;
  float max = 0;
};

// Cosine between the representations of `identities`, over all pairs that the generation covers; zeros if it
// is null, has no representations, or covers fewer than two of them. Summed in a fixed order: the same bits
// everywhere.
SimilarityStatistics BatchSimilarity(const Generation* generation, absl::Span<const uint64_t> identities);

}  // namespace doppel
