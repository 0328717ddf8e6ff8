#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "trainer/loss/kernels/row_kernels.h"
#include "trainer/loss/margin.h"

namespace doppel {

// All triplets of one anchor at once. Keeps its scratch space between anchors. Not thread-safe.
class AnchorSums {
 public:
  struct Totals {
    double loss = 0;
    int64_t active = 0;
  };

  // negatives [n]: distances, +infinity where there is none. Adds up margin(d_ap - d_an) over all pairs;
  // weights[j] becomes the sum of its slopes over the positives, positive_weights()[i] that over the
  // negatives.
  Totals Sum(absl::Span<const float> d_ap, absl::Span<const float> negatives, const Margin& margin,
             float* weights);
  const std::vector<double>& positive_weights() const { return positive_weights_; }

 private:
  Totals FewPositives(absl::Span<const float> negatives, float* weights);
  Totals ManyPositives(absl::Span<const float> negatives, float* weights);

  const RowKernels& kernels_ = BestRowKernels();
  std::vector<double> positive_weights_;
  std::vector<float> thresholds_, unused_;
  std::vector<int64_t> active_;
  std::vector<int32_t> ranks_, order_;
  std::vector<float> sorted_;
  std::vector<double> above_;
};

}  // namespace doppel
