#pragma once

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "trainer/loss/distance.h"
#include "trainer/loss/kernels/distance_space.h"
#include "trainer/loss/loss.h"

namespace doppel {

// Distances of a batch for losses over selected pairs: on the CPU in single precision (what is shorter is
// widened) through DistanceSpace, else (float64, other devices) through tensors. Either way rows for
// selection are float32 on the host, and the gradient goes through the pairs that are asked for alone.
class BatchGeometry {
 public:
  // Precondition: CheckInput(input).
  static absl::StatusOr<BatchGeometry> Create(const LossInput& input, Distance distance);

  bool has_space() const { return space_.has_value(); }
  const DistanceSpace& space() const { return *space_; }
  // [B, D], attached to the graph, in the precision that distances are computed in.
  const torch::Tensor& embeddings() const { return embeddings_; }
  // [columns, D], memory rows last.
  torch::Tensor Columns() const;

  // See DistanceSpace::ForEachRow. A matrix is held up to 2^26 elements.
  void ForEachRow(const std::function<void(int64_t, float*)>& visit) const;
  // L2 norms by column, float32.
  const std::vector<float>& norms() const { return norms_; }

  // Distances of pairs from their differences, for Loss.
  std::vector<double> PairsOf(const std::vector<int64_t>& anchors, const std::vector<int64_t>& columns) const;
  // Σ slopes[i] d(anchors[i], columns[i]) is what the scalar returned changes by; its value is `value`.
  struct PairSlopes {
    const std::vector<int64_t>& anchors;
    const std::vector<int64_t>& columns;
    const std::vector<double>& distances;  // as PairsOf gave them
    const std::vector<double>& slopes;
  };
  torch::Tensor Loss(double value, std::initializer_list<PairSlopes> pairs) const;

 private:
  BatchGeometry() = default;

  Distance distance_ = Distance::kEuclidean;
  torch::Tensor embeddings_, memory_;
  std::optional<DistanceSpace> space_;
  std::vector<float> norms_;
};

}  // namespace doppel
