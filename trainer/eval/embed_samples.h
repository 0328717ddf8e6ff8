#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/base/clock.h"
#include "common/catalog/catalog.h"
#include "common/model/embedding_model.h"

namespace doppel {

struct EmbedOptions {
  int threads = 1;
  int batch_size = 192;
  // If set, every image is mildly augmented, by (this seed, sample).
  std::optional<uint64_t> augment_seed;
  bool quiet = false;  // no progress bar
};

// L2-normalised embeddings [samples, dimension] of these samples of the catalog, in their order. `threads`
// threads of its own decode and embed, each with a clone of the model that computes on one thread. Same
// result for any `threads`. Errors name the sample: DATA_LOSS or INVALID_ARGUMENT if its image cannot be
// used, INTERNAL if the embedding has no direction (not a number, or zero).
absl::StatusOr<std::vector<float>> EmbedSamples(const Catalog& catalog, const EmbeddingModel& model,
                                                absl::Span<const uint64_t> samples, absl::string_view label,
                                                const EmbedOptions& options,
                                                const Clock& clock = Clock::Real());

}  // namespace doppel
