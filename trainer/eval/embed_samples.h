#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/base/clock.h"
#include "common/catalog/catalog.h"
#include "common/model/embedding_model.h"
#include "trainer/eval/image_source.h"

namespace doppel {

struct EmbedOptions {
  int threads = 1;
  int batch_size = 192;
  // If set, every image is mildly augmented, by (this seed, sample).
  std::optional<uint64_t> augment_seed;
  bool mirror = false;    // sum of the image's embedding and that of its mirror image
  bool normalize = true;  // to unit length
  int64_t chunk = 0;      // EmbedImages: images per call of the sink; 0: all at once
  bool quiet = false;     // no progress bar
};

// Rows [first, first + n) of the embeddings, [n, dimension].
using EmbeddingSink = std::function<absl::Status(int64_t first, std::vector<float> rows)>;

// Embeds images [first, source.size()), chunk by chunk, in order; `sink` runs on the calling thread.
// `threads` threads of its own decode and embed, each with a clone of the model that computes on one thread.
// Same rows for any `threads`. Errors name the image: DATA_LOSS or INVALID_ARGUMENT if it cannot be used,
// INTERNAL if its embedding is not a number, or zero. An error of the sink ends the pass.
absl::Status EmbedImages(const ImageSource& source, const EmbeddingModel& model, int64_t first,
                         absl::string_view label, const EmbedOptions& options, const EmbeddingSink& sink,
                         const Clock& clock = Clock::Real());

// All of them as one matrix.
absl::StatusOr<std::vector<float>> EmbedAll(const ImageSource& source, const EmbeddingModel& model,
                                            absl::string_view label, const EmbedOptions& options,
                                            const Clock& clock = Clock::Real());

// The same of these samples of a catalog, in their order.
absl::StatusOr<std::vector<float>> EmbedSamples(const Catalog& catalog, const EmbeddingModel& model,
                                                absl::Span<const uint64_t> samples, absl::string_view label,
                                                const EmbedOptions& options,
                                                const Clock& clock = Clock::Real());

}  // namespace doppel
