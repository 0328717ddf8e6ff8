#include "miner/clustering/packed_centroids.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

namespace doppel {
namespace {

class Bisector {
 public:
  Bisector(const NearestCentroidKernel& kernel, const float* centroids, int dimension)
      : kernel_(kernel), centroids_(centroids), dimension_(dimension) {}

  void Run(int32_t* order, int64_t count) const {
    if (count <= kernel_.width) {
      std::sort(order, order + count);
      return;
    }
    const int32_t a = Furthest(order, count, order[0]);
    const int32_t b = Furthest(order, count, a);
    std::vector<std::pair<float, int32_t>> by_side;
    by_side.reserve(count);
    for (int64_t i = 0; i < count; ++i) {
      by_side.emplace_back(Product(order[i], b) - Product(order[i], a), order[i]);
    }
    std::sort(by_side.begin(), by_side.end());
    for (int64_t i = 0; i < count; ++i) order[i] = by_side[i].second;
    const int64_t panels = (count + kernel_.width - 1) / kernel_.width;
    const int64_t cut = (panels / 2) * kernel_.width;
    Run(order, cut);
    Run(order + cut, count - cut);
  }

 private:
  float Product(int32_t a, int32_t b) const {
    return kernel_.dot(centroids_ + int64_t{a} * dimension_, centroids_ + int64_t{b} * dimension_,
                       dimension_);
  }
  int32_t Furthest(const int32_t* order, int64_t count, int32_t from) const {
    int32_t furthest = from;
    float least = std::numeric_limits<float>::infinity();
    for (int64_t i = 0; i < count; ++i) {
      const float product = Product(order[i], from);
      if (product >= least) continue;
      least = product;
      furthest = order[i];
    }
    return furthest;
  }

  const NearestCentroidKernel kernel_;
  const float* const centroids_;
  const int dimension_;
};

std::vector<int32_t> Ascending(int64_t m) {
  std::vector<int32_t> order(m);
  std::iota(order.begin(), order.end(), 0);
  return order;
}

}  // namespace

PackedCentroids::PackedCentroids(const NearestCentroidKernel& kernel, const float* centroids, int64_t m,
                                 int dimension, std::vector<int32_t> order)
    : width_(kernel.width), dimension_(dimension), order_(std::move(order)) {
  if (order_.empty()) order_ = Ascending(m);
  values_.resize(static_cast<size_t>(panels()) * width_ * (1 + dimension), 0);
  for (int64_t slot = 0; slot < panels() * width_; ++slot) {
    float* to = values_.data() + slot / width_ * width_ * (1 + dimension) + slot % width_;
    if (slot >= m) {
      *to = -std::numeric_limits<float>::infinity();
      continue;
    }
    const float* from = centroids + int64_t{order_[slot]} * dimension;
    for (int j = 0; j < dimension; ++j) to[int64_t{1 + j} * width_] = from[j];
  }
}

int PackedCentroids::lanes(int64_t p) const {
  return static_cast<int>(std::min<int64_t>(width_, static_cast<int64_t>(order_.size()) - p * width_));
}

std::vector<int32_t> OrderByNeighbourhood(const NearestCentroidKernel& kernel, const float* centroids,
                                          int64_t m, int dimension) {
  std::vector<int32_t> order = Ascending(m);
  Bisector(kernel, centroids, dimension).Run(order.data(), m);
  return order;
}

}  // namespace doppel
