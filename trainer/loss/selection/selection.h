#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace doppel {

// Which triplets a loss is taken over. Pairs are listed once, however many triplets share them, so that
// distances and gradients are computed once per pair.
struct TripletSelection {
  // Rows of the batch: (anchor, positive) and (anchor, negative).
  std::vector<int64_t> ap_anchor, ap_positive;
  std::vector<int64_t> an_anchor, an_negative;
  // Triplet t is pair ap[t] and pair an[t], of the same anchor.
  std::vector<int64_t> ap, an;
};

// Chooses triplets by distance, without gradient. Immutable, thread-safe.
class TripletSelector {
 public:
  virtual ~TripletSelector() = default;
  // distances: [B, B]. Precondition: CheckHasTriplets(identities). Anchors without a positive are left out.
  virtual TripletSelection Select(const torch::Tensor& distances,
                                  absl::Span<const int64_t> identities) const = 0;
};

}  // namespace doppel
