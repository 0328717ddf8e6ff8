#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace doppel {

struct Percentiles {
  double p0 = 0, p5 = 0, p50 = 0, p95 = 0, p100 = 0;
};

// Linear interpolation between order statistics, as NumPy's default. Zeros for no values. O(n).
Percentiles ComputePercentiles(std::vector<float> values);

// Values that each stand for `weight` equal ones, or weights[i], if those are given. Weights are whole
// numbers; values of +infinity stand for none.
struct WeightedValues {
  const float* values = nullptr;
  int64_t size = 0;
  double weight = 1;
  const float* weights = nullptr;
};
// ComputePercentiles of all values, repeated by their weights, without spelling them out: a histogram tells
// which few values have to be sorted. O(n) time, hardly any memory.
Percentiles ComputeWeightedPercentiles(absl::Span<const WeightedValues> parts);

// What a step of metric learning is judged by; the loss alone says little.
struct LossStatistics {
  double loss = 0;
  // Share of the selected triplets that still teach. Hinge: d_ap + margin > d_an; soft margin: d_ap > d_an.
  double active = 0;
  int64_t triplets = 0;
  // Over the selected triplets.
  Percentiles d_ap, d_an;
  // L2 norms of the batch's embeddings, as the network put them out.
  Percentiles norm;
};

}  // namespace doppel
