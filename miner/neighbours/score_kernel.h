// The inner loops, compiled once per instruction set (score_kernel_*.cc). Nothing but built-in types here: an
// inline function of a library, compiled with these instructions, could be picked by the linker for the whole
// program.
#pragma once

#include <cstdint>

namespace doppel {

struct NeighbourKernel {
  int rows;   // one side is packed in groups: [groups][dimension][rows]
  int width;  // the other one in panels: [panels][dimension][width]
  // out[rows][stride]: the first `width` of each row are written. A product is summed in the order of the
  // dimensions, so that it depends on its two vectors alone.
  void (*score)(const float* group, const float* panel, int dimension, float* out, int64_t stride);
  // The positions of scores that reach either bound, ascending; returns how many. n is a multiple of width.
  int64_t (*select)(const float* scores, int64_t n, float row_bound, const float* column_bounds,
                    int32_t* positions);
};

NeighbourKernel NeighbourKernelAvx2();
NeighbourKernel NeighbourKernelAvx512();

namespace {

// Isa: a processor's vectors (Floats, kLanes of them) and what is done with them.
template <typename Isa, int Rows, int Vectors>
void ScoreGroup(const float* group, const float* panel, int dimension, float* out, int64_t stride) {
  constexpr int kLanes = Isa::kLanes;
  typename Isa::Floats sum[Rows][Vectors];
  for (int r = 0; r < Rows; ++r) {
    for (int v = 0; v < Vectors; ++v) sum[r][v] = Isa::Broadcast(0);
  }
  for (int d = 0; d < dimension; ++d) {
    typename Isa::Floats y[Vectors];
    for (int v = 0; v < Vectors; ++v) y[v] = Isa::Load(panel + (d * Vectors + v) * kLanes);
    for (int r = 0; r < Rows; ++r) {
      const auto x = Isa::Broadcast(group[d * Rows + r]);
      for (int v = 0; v < Vectors; ++v) sum[r][v] = Isa::MultiplyAdd(x, y[v], sum[r][v]);
    }
  }
  for (int r = 0; r < Rows; ++r) {
    for (int v = 0; v < Vectors; ++v) Isa::Store(out + r * stride + v * kLanes, sum[r][v]);
  }
}

template <typename Isa>
int64_t SelectScores(const float* scores, int64_t n, float row_bound, const float* column_bounds,
                     int32_t* positions) {
  constexpr int kLanes = Isa::kLanes;
  const auto row = Isa::Broadcast(row_bound);
  int64_t count = 0;
  for (int64_t i = 0; i < n; i += kLanes) {
    uint32_t mask = Isa::AtLeastEither(Isa::Load(scores + i), row, Isa::Load(column_bounds + i));
    for (; mask != 0; mask &= mask - 1) {
      positions[count++] = static_cast<int32_t>(i + __builtin_ctz(mask));
    }
  }
  return count;
}

}  // namespace
}  // namespace doppel
