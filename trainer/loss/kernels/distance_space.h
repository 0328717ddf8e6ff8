#pragma once

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "trainer/loss/distance.h"
#include "trainer/loss/selection/batch_pairs.h"

namespace doppel {

// The batch laid out for distances on the CPU in float32. Gram matrices are taken of centred rows: distances
// do not change, and what is lost to cancellation is relative to the batch's spread, not to its offset. Pairs
// much closer than that spread are computed from their difference. Immutable, thread-safe.
class DistanceSpace {
 public:
  // embeddings [B, D], memory [R, D] or undefined: float32 on the CPU. INVALID_ARGUMENT if a squared norm
  // overflows.
  static absl::StatusOr<DistanceSpace> Create(const torch::Tensor& embeddings, const torch::Tensor& memory,
                                              Distance distance);

  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  int64_t dimension() const { return dimension_; }
  Distance distance() const { return distance_; }

  // Calls visit(a, row) for a = 0 .. B-1 in order, with the distances to all columns; the row may be changed.
  // Rows live in one matrix [B, columns] if that has at most `most` elements and in a block of rows otherwise
  // (nearly twice the arithmetic: the matrix is symmetric). Close pairs are appended to *close, if that is
  // not null. Returns the matrix, if there is one.
  torch::Tensor ForEachRow(const std::function<void(int64_t, float*)>& visit, int64_t most,
                           std::vector<std::pair<int32_t, int32_t>>* close) const;

  // From the difference, to the last digits.
  float Exact(int64_t row, int64_t column) const;
  // L2 norms of the columns as given, for cosines. [columns]
  const std::vector<float>& norms() const { return norms_; }

 private:
  friend class PairGradient;
  DistanceSpace() = default;
  const float* Centred(int64_t column) const { return centred_ + column * dimension_; }
  void FinishRow(int64_t a, float* row, std::vector<std::pair<int32_t, int32_t>>* close) const;

  Distance distance_ = Distance::kEuclidean;
  int64_t rows_ = 0, columns_ = 0, dimension_ = 0;
  torch::Tensor z_;  // [columns, D]; rows, or unit rows for the cosine; less their mean
  const float* centred_ = nullptr;
  torch::Tensor unit_;          // cosine: [B, D] unit rows
  std::vector<float> squares_;  // |z|²
  std::vector<float> norms_;
  std::vector<float> slack_;  // cosine: (1 - |u|²) / 2, which is not 0 for tiny rows
};

// Collects dL/dx over pairs. Not thread-safe.
class PairGradient {
 public:
  // `space` must outlive it.
  explicit PairGradient(const DistanceSpace& space);

  // dL/dd = slope for the pair's distance d. Memory columns receive nothing.
  void Add(int64_t row, int64_t column, double d, double slope) {
    AddFactor(row, column, slope * Factor(space_.distance_, d));
  }
  // The same with slope * Factor(d).
  void AddFactor(int64_t row, int64_t column, double factor);
  // The same for all pairs at once: factors [B, columns] hold -slope * Factor(d). Destroys them.
  void SubtractAll(const torch::Tensor& factors);
  // Twice the derivative of the distance by |z_row - z_column|².
  static double Factor(Distance distance, double d) {
    if (distance == Distance::kEuclidean) return 1 / d;
    return distance == Distance::kSquaredEuclidean ? 2 : 1;
  }
  // [B, D], times `scale`. Call once.
  torch::Tensor Finish(double scale);

 private:
  const DistanceSpace& space_;
  torch::Tensor gradient_;  // with respect to z
  float* const values_;
  std::vector<double> total_;  // cosine: Σ of dL/dd over the pairs of a row
};

}  // namespace doppel
