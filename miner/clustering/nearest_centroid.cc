#include "miner/clustering/nearest_centroid.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

#include "common/base/executor.h"
#include "miner/clustering/nearest_centroid_kernel.h"

namespace doppel {
namespace {

// Rows that go through one panel after the other: they stay in the second-level cache, the panel in the
// first.
constexpr int64_t kChunk = 384;

// Fills the last panel up with the last centroid: its copies have the same product and a higher number, so
// they lose.
std::vector<float> Pack(const float* centroids, int64_t m, int dimension, int width) {
  const int64_t panels = (m + width - 1) / width;
  std::vector<float> packed(static_cast<size_t>(panels) * dimension * width);
  for (int64_t p = 0; p < panels; ++p) {
    for (int lane = 0; lane < width; ++lane) {
      const float* centroid = centroids + std::min(p * width + lane, m - 1) * dimension;
      for (int j = 0; j < dimension; ++j) packed[(p * dimension + j) * width + lane] = centroid[j];
    }
  }
  return packed;
}

void RunKernel(const NearestCentroidKernel& kernel, const RowView& rows, const float* centroids, int64_t m,
               int threads, int64_t* nearest, float* product) {
  const int width = kernel.width, dimension = rows.dimension;
  const std::vector<float> packed = Pack(centroids, m, dimension, width);
  const int64_t panels = (m + width - 1) / width;
  ParallelFor(rows.count, kChunk, threads, [&](int64_t begin, int64_t end) {
    const float* row[kChunk];
    for (int64_t i = begin; i < end; ++i) row[i - begin] = rows.row(i);
    std::vector<float> best((end - begin) * width, -std::numeric_limits<float>::infinity());
    std::vector<int32_t> panel((end - begin) * width, 0);
    for (int64_t p = 0; p < panels; ++p) {
      kernel.run(row, end - begin, dimension, packed.data() + p * dimension * width, static_cast<int32_t>(p),
                 best.data(), panel.data());
    }
    for (int64_t i = begin; i < end; ++i) {
      const float* row_best = best.data() + (i - begin) * width;
      const int32_t* row_panel = panel.data() + (i - begin) * width;
      product[i] = row_best[0];
      nearest[i] = int64_t{row_panel[0]} * width;
      for (int lane = 1; lane < width; ++lane) {
        const int64_t number = int64_t{row_panel[lane]} * width + lane;
        if (row_best[lane] > product[i] || (row_best[lane] == product[i] && number < nearest[i])) {
          product[i] = row_best[lane];
          nearest[i] = number;
        }
      }
    }
  });
}

}  // namespace

void NearestCentroidsPortable(const float* rows, int64_t n, const float* centroids, int64_t m, int dimension,
                              int64_t* nearest, float* product) {
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t c = 0; c < m; ++c) {
      float sum = 0;
      for (int j = 0; j < dimension; ++j) sum += rows[i * dimension + j] * centroids[c * dimension + j];
      if (c == 0 || sum > product[i]) {
        product[i] = sum;
        nearest[i] = c;
      }
    }
  }
}

void NearestCentroids(const RowView& rows, const float* centroids, int64_t m, int threads, int64_t* nearest,
                      float* product) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) {
    return RunKernel(NearestCentroidAvx512(), rows, centroids, m, threads, nearest, product);
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return RunKernel(NearestCentroidAvx2(), rows, centroids, m, threads, nearest, product);
  }
#endif
  ParallelFor(rows.count, kChunk, threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      NearestCentroidsPortable(rows.row(i), 1, centroids, m, rows.dimension, nearest + i, product + i);
    }
  });
}

void NearestCentroids(const float* rows, int64_t n, const float* centroids, int64_t m, int dimension,
                      int threads, int64_t* nearest, float* product) {
  NearestCentroids(RowView{rows, dimension, nullptr, n}, centroids, m, threads, nearest, product);
}

}  // namespace doppel
