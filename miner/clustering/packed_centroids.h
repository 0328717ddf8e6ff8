#pragma once

#include <cstdint>
#include <vector>

#include "miner/clustering/nearest_centroid_kernel.h"

namespace doppel {

// Centroids as a kernel wants them: panels of its width, one after the other.
class PackedCentroids {
 public:
  // `order`: the centroids in the order of packing, ascending within a panel's reach (so that ties go to the
  // lower number); empty: 0, 1, ….
  PackedCentroids(const NearestCentroidKernel& kernel, const float* centroids, int64_t m, int dimension,
                  std::vector<int32_t> order = {});

  int64_t panels() const { return (static_cast<int64_t>(order_.size()) + width_ - 1) / width_; }
  const float* panel(int64_t p) const { return values_.data() + p * width_ * (1 + dimension_); }
  // Lanes of the panel that have a centroid.
  int lanes(int64_t p) const;
  int32_t centroid(int64_t panel, int32_t lane) const { return order_[panel * width_ + lane]; }

 private:
  const int width_, dimension_;
  std::vector<int32_t> order_;
  std::vector<float> values_;
};

// An order in which centroids of one panel lie together: bisected between two that are far apart, until a
// part fits a panel. Ascending within each panel.
std::vector<int32_t> OrderByNeighbourhood(const NearestCentroidKernel& kernel, const float* centroids,
                                          int64_t m, int dimension);

}  // namespace doppel
