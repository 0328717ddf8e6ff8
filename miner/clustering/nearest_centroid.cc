#include "miner/clustering/nearest_centroid.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

#include "common/base/executor.h"
#include "miner/clustering/nearest_centroid_kernel.h"
#include "miner/clustering/packed_centroids.h"

namespace doppel {
namespace {

// Rows that go through one panel after the other: they stay in the second-level cache, the panel in the
// first.
constexpr int64_t kChunk = 384;

void TopPortable(const float* const* rows, int64_t count, int dimension, const float* panel, int lanes,
                 float* best, int32_t* lane, float* second) {
  constexpr int kWidth = 16;
  for (int64_t i = 0; i < count; ++i) {
    float sum[kWidth];
    std::copy_n(panel, kWidth, sum);
    for (int j = 0; j < dimension; ++j) {
      const float* centroid = panel + (1 + j) * kWidth;
      for (int c = 0; c < kWidth; ++c) sum[c] += rows[i][j] * centroid[c];
    }
    best[i] = sum[0];
    lane[i] = 0;
    second[i] = -std::numeric_limits<float>::infinity();
    for (int c = 1; c < lanes; ++c) {
      if (sum[c] > best[i]) {
        second[i] = best[i];
        best[i] = sum[c];
        lane[i] = c;
      } else {
        second[i] = std::max(second[i], sum[c]);
      }
    }
  }
}

float DotPortable(const float* a, const float* b, int count) {
  float sum = 0;
  for (int j = 0; j < count; ++j) sum += a[j] * b[j];
  return sum;
}

void RunKernel(const NearestCentroidKernel& kernel, const RowView& rows, const float* centroids, int64_t m,
               int threads, int64_t* nearest, float* product) {
  const PackedCentroids packed(kernel, centroids, m, rows.dimension);
  ParallelFor(rows.count, kChunk, threads, [&](int64_t begin, int64_t end) {
    const float* row[kChunk];
    float best[kChunk], second[kChunk];
    int32_t lane[kChunk];
    for (int64_t i = begin; i < end; ++i) row[i - begin] = rows.row(i);
    for (int64_t p = 0; p < packed.panels(); ++p) {
      kernel.top(row, end - begin, rows.dimension, packed.panel(p), packed.lanes(p), best, lane, second);
      for (int64_t i = begin; i < end; ++i) {
        if (p > 0 && !(best[i - begin] > product[i])) continue;
        product[i] = best[i - begin];
        nearest[i] = packed.centroid(p, lane[i - begin]);
      }
    }
  });
}

}  // namespace

NearestCentroidKernel NearestCentroidPortable() {
  return {16, TopPortable, DotPortable, AddRow<1>, AddRow<-1>};
}

NearestCentroidKernel BestNearestCentroidKernel() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return NearestCentroidAvx512();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return NearestCentroidAvx2();
#endif
  return NearestCentroidPortable();
}

void NearestCentroidsPortable(const float* rows, int64_t n, const float* centroids, int64_t m, int dimension,
                              int64_t* nearest, float* product) {
  RunKernel(NearestCentroidPortable(), RowView{rows, dimension, nullptr, n}, centroids, m, 1, nearest,
            product);
}

void NearestCentroids(const RowView& rows, const float* centroids, int64_t m, int threads, int64_t* nearest,
                      float* product) {
  RunKernel(BestNearestCentroidKernel(), rows, centroids, m, threads, nearest, product);
}

void NearestCentroids(const float* rows, int64_t n, const float* centroids, int64_t m, int dimension,
                      int threads, int64_t* nearest, float* product) {
  NearestCentroids(RowView{rows, dimension, nullptr, n}, centroids, m, threads, nearest, product);
}

}  // namespace doppel
