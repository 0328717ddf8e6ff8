#pragma once

#include <memory>

#include "common/image/augment.h"
#include "trainer/stream/batch_source.h"

namespace doppel {

struct PrefetchOptions {
  int depth = 3;    // batches ready ahead
  int threads = 1;  // that decode
  int height = 48, width = 48, channels = 1;
  AugmentOptions augment;
  bool verify_checksums = true;  // of REFERENCE samples; the source has checked the others
  uint64_t augment_seed = 0;     // an image's augmentation is a function of (augment_seed, cursor, position)
};

// Pulls from `source` (owned) in the background, decodes (ENCODED, REFERENCE) or takes over pixels (DECODED),
// and augments. The order is the source's. The destructor cancels the source.
std::unique_ptr<TrainingBatchSource> MakePrefetcher(std::unique_ptr<BatchSource> source,
                                                    PrefetchOptions options);

}  // namespace doppel
