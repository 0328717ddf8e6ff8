#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace doppel {

// Counts over TensorBoard's usual buckets: edges at ±1e-12 · 1.1^i, up to 1e20.
struct Histogram {
  double min = 0, max = 0, sum = 0, sum_squares = 0;
  uint64_t count = 0;
  // Right edges, rising, and what lies at or below each and above the one before. Empty buckets at both ends
  // are left out, but for one on the left, whose right edge is the left edge of the first full one.
  std::vector<double> limits;
  std::vector<uint64_t> buckets;
};

// Values that are not finite are left out. O(n log buckets).
Histogram ComputeHistogram(absl::Span<const float> values);

}  // namespace doppel
