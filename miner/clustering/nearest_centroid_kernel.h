// The inner loop, compiled once per instruction set (nearest_centroid_*.cc). Nothing but built-in types here:
// an inline function of a library, compiled with these instructions, could be picked by the linker for the
// whole program.
#pragma once

#include <cstdint>

namespace doppel {

struct NearestCentroidKernel {
  // Centroids are packed in panels of `width`: [panels][dimension][width].
  int width;
  // Updates best and index, both [count][width]: the highest product that each lane has seen, and which it
  // was.
  void (*run)(const float* const* rows, int64_t count, int dimension, const float* panel,
              int32_t panel_number, float* best, int32_t* index);
};

NearestCentroidKernel NearestCentroidAvx2();
NearestCentroidKernel NearestCentroidAvx512();

namespace {

// Isa: a processor's vectors (Floats, kLanes of them) and what is done with them. A panel is two vectors
// wide; Rows rows share what is loaded of it.
template <typename Isa, int Rows>
inline void RunRows(const float* const* rows, int dimension, const float* panel, int32_t panel_number,
                    float* best, int32_t* index) {
  constexpr int kLanes = Isa::kLanes;
  typename Isa::Floats sum[Rows][2];
  for (int r = 0; r < Rows; ++r) sum[r][0] = sum[r][1] = Isa::Broadcast(0);
  for (int j = 0; j < dimension; ++j) {
    const auto low = Isa::Load(panel + j * 2 * kLanes);
    const auto high = Isa::Load(panel + j * 2 * kLanes + kLanes);
    for (int r = 0; r < Rows; ++r) {
      const auto x = Isa::Broadcast(rows[r][j]);
      // Explicit: left to the compiler, some sums would be fused and some not.
      sum[r][0] = Isa::MultiplyAdd(x, low, sum[r][0]);
      sum[r][1] = Isa::MultiplyAdd(x, high, sum[r][1]);
    }
  }
  for (int r = 0; r < Rows; ++r) {
    for (int half = 0; half < 2; ++half) {
      Isa::KeepBetter(sum[r][half], panel_number, best + (r * 2 + half) * kLanes,
                      index + (r * 2 + half) * kLanes);
    }
  }
}

template <typename Isa, int Rows>
void RunPanel(const float* const* rows, int64_t count, int dimension, const float* panel,
              int32_t panel_number, float* best, int32_t* index) {
  constexpr int kWidth = 2 * Isa::kLanes;
  int64_t i = 0;
  for (; i + Rows <= count; i += Rows) {
    RunRows<Isa, Rows>(rows + i, dimension, panel, panel_number, best + i * kWidth, index + i * kWidth);
  }
  for (; i < count; ++i) {
    RunRows<Isa, 1>(rows + i, dimension, panel, panel_number, best + i * kWidth, index + i * kWidth);
  }
}

}  // namespace
}  // namespace doppel
