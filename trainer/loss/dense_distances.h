#pragma once

#include <torch/types.h>

#include "trainer/loss/distance.h"

namespace doppel {

// Distances of all rows of a batch to all of its rows and those of a memory, without autograd: losses that
// know the slope of every distance get the gradient in one matrix product. Pairs so close that the matrix
// product loses their digits are computed from their difference, here and in the gradient.
// O(B * (B + R)) memory.
class DenseDistances {
 public:
  // embeddings [B, D] float32 or float64; memory [R, D] of the same type and device, or undefined.
  DenseDistances(const torch::Tensor& embeddings, const torch::Tensor& memory, Distance distance);

  // [B, B + R]; an element with itself is 0 (squared, cosine) or 1e-6.
  const torch::Tensor& values() const { return values_; }
  // slopes [B, B + R]: d loss / d distance, each distance on its own (an unordered pair counted once stands
  // in one of its two places). Returns d loss / d embeddings [B, D]. The diagonal has no say.
  torch::Tensor Gradient(const torch::Tensor& slopes) const;

 private:
  void Refine();
  torch::Tensor CosineGradient(const torch::Tensor& symmetric, const torch::Tensor& slopes) const;

  const Distance distance_;
  torch::Tensor exact_;          // [B, D] as given
  torch::Tensor memory_;         // [R, D] as given, or undefined
  torch::Tensor rows_;           // [B, D] about the mean (cosine: unit length)
  torch::Tensor columns_;        // [R, D] likewise, or undefined
  torch::Tensor inverse_norms_;  // [B, 1], cosine
  torch::Tensor values_;
  torch::Tensor close_;  // int64 [n]: places in values_ that were computed from differences
};

// A scalar of this value whose gradient by `embeddings` is `gradient`, [B, D], times what comes from above.
torch::Tensor WithGradient(const torch::Tensor& embeddings, const torch::Tensor& value,
                           const torch::Tensor& gradient);

}  // namespace doppel
