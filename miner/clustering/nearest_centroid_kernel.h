// The inner loops, compiled once per instruction set (nearest_centroid_*.cc). Nothing but built-in types
// here: an inline function of a library, compiled with these instructions, could be picked by the linker for
// the whole program.
#pragma once

#include <cstdint>

namespace doppel {

struct NearestCentroidKernel {
  // Centroids are packed in panels of `width`: [1 + dimension][width], of which the first line is what each
  // lane's sum starts from: 0, or -infinity for a lane without a centroid.
  int width;
  // For each of `count` rows the highest product of a panel, its lane (the lowest of several) and the highest
  // product of the other lanes. `lanes`: how many have a centroid.
  void (*top)(const float* const* rows, int64_t count, int dimension, const float* panel, int lanes,
              float* best, int32_t* lane, float* second);
  float (*dot)(const float* a, const float* b, int count);
  // sum[j] ± row[j]
  void (*add)(const float* row, int count, double* sum);
  void (*subtract)(const float* row, int count, double* sum);
};

NearestCentroidKernel NearestCentroidPortable();
#if defined(__x86_64__)
NearestCentroidKernel NearestCentroidAvx2();
NearestCentroidKernel NearestCentroidAvx512();
#endif
// The fastest that this processor has.
NearestCentroidKernel BestNearestCentroidKernel();

namespace {

// Isa: a processor's vectors (Floats, kLanes of them) and what is done with them. A panel is two vectors
// wide, of which Vectors are looked at; Rows rows share what is loaded of it.
template <typename Isa, int Rows, int Vectors>
inline void TopOfRows(const float* const* rows, int dimension, const float* panel, float* best, int32_t* lane,
                      float* second) {
  constexpr int kWidth = 2 * Isa::kLanes;
  typename Isa::Floats sum[Rows][Vectors];
  for (int r = 0; r < Rows; ++r) {
    for (int v = 0; v < Vectors; ++v) sum[r][v] = Isa::Load(panel + v * Isa::kLanes);
  }
  for (int j = 0; j < dimension; ++j) {
    typename Isa::Floats centroid[Vectors];
    for (int v = 0; v < Vectors; ++v) centroid[v] = Isa::Load(panel + (1 + j) * kWidth + v * Isa::kLanes);
    for (int r = 0; r < Rows; ++r) {
      const auto x = Isa::Broadcast(rows[r][j]);
      // Explicit: left to the compiler, some sums would be fused and some not.
      for (int v = 0; v < Vectors; ++v) sum[r][v] = Isa::MultiplyAdd(x, centroid[v], sum[r][v]);
    }
  }
  for (int r = 0; r < Rows; ++r) {
    Isa::TopTwo(sum[r][0], sum[r][Vectors - 1], Vectors == 2, best + r, lane + r, second + r);
  }
}

template <typename Isa, int Rows, int Vectors>
void TopOfAll(const float* const* rows, int64_t count, int dimension, const float* panel, float* best,
              int32_t* lane, float* second) {
  constexpr int kFew = 4;
  int64_t i = 0;
  for (; i + Rows <= count; i += Rows) {
    TopOfRows<Isa, Rows, Vectors>(rows + i, dimension, panel, best + i, lane + i, second + i);
  }
  for (; i + kFew <= count; i += kFew) {
    TopOfRows<Isa, kFew, Vectors>(rows + i, dimension, panel, best + i, lane + i, second + i);
  }
  if (i == count) return;
  const float* last[kFew];
  float last_best[kFew], last_second[kFew];
  int32_t last_lane[kFew];
  for (int r = 0; r < kFew; ++r) last[r] = rows[i + r < count ? i + r : count - 1];
  TopOfRows<Isa, kFew, Vectors>(last, dimension, panel, last_best, last_lane, last_second);
  for (int r = 0; i + r < count; ++r) {
    best[i + r] = last_best[r];
    lane[i + r] = last_lane[r];
    second[i + r] = last_second[r];
  }
}

template <typename Isa, int Rows>
void TopOfPanel(const float* const* rows, int64_t count, int dimension, const float* panel, int lanes,
                float* best, int32_t* lane, float* second) {
  if (lanes <= Isa::kLanes) {
    TopOfAll<Isa, 2 * Rows, 1>(rows, count, dimension, panel, best, lane, second);
  } else {
    TopOfAll<Isa, Rows, 2>(rows, count, dimension, panel, best, lane, second);
  }
}

// Sixteen sums side by side, whatever the width of a vector, so that every instruction set has the same bits.
template <typename Isa>
float DotOfRows(const float* a, const float* b, int count) {
  constexpr int kSums = 16, kVectors = kSums / Isa::kLanes;
  typename Isa::Floats sum[kVectors];
  for (int v = 0; v < kVectors; ++v) sum[v] = Isa::Broadcast(0);
  int j = 0;
  for (; j + kSums <= count; j += kSums) {
    for (int v = 0; v < kVectors; ++v) {
      const int at = j + v * Isa::kLanes;
      sum[v] = Isa::MultiplyAdd(Isa::Load(a + at), Isa::Load(b + at), sum[v]);
    }
  }
  float sums[kSums];
  for (int v = 0; v < kVectors; ++v) Isa::Store(sums + v * Isa::kLanes, sum[v]);
  for (; j < count; ++j) sums[j % kSums] = __builtin_fmaf(a[j], b[j], sums[j % kSums]);
  for (int half = kSums / 2; half > 0; half /= 2) {
    for (int s = 0; s < half; ++s) sums[s] += sums[s + half];
  }
  return sums[0];
}

template <int Sign>
void AddRow(const float* row, int count, double* sum) {
  for (int j = 0; j < count; ++j) sum[j] += Sign * static_cast<double>(row[j]);
}

}  // namespace
}  // namespace doppel
