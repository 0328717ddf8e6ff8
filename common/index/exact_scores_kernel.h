// The inner loops, compiled once per instruction set (exact_scores_*.cc). Nothing but built-in types here: an
// inline function of a library, compiled with these instructions, could be picked by the linker for the whole
// program.
#pragma once

#include <cstdint>

namespace doppel {

struct ExactScoreKernel {
  int rows;   // queries are packed in groups: [groups][dimension][rows]
  int width;  // vectors are packed in panels: [panels][dimension][width]
  // out[rows][stride]: the first `width` of each row are written.
  void (*run)(const double* group, const double* panel, int dimension, double* out, int64_t stride);
  int64_t (*count_above)(const double* scores, int64_t n, double bound);
};

ExactScoreKernel ExactScoresAvx2();
ExactScoreKernel ExactScoresAvx512();

namespace {

// Isa: a processor's vectors (Doubles, kLanes of them) and what is done with them. Whether products are fused
// into the sums does not show: they are exact.
template <typename Isa, int Rows, int Vectors>
void RunExactScores(const double* group, const double* panel, int dimension, double* out, int64_t stride) {
  constexpr int kLanes = Isa::kLanes;
  typename Isa::Doubles sum[Rows][Vectors];
  for (int r = 0; r < Rows; ++r) {
    for (int v = 0; v < Vectors; ++v) sum[r][v] = Isa::Broadcast(0);
  }
  for (int d = 0; d < dimension; ++d) {
    typename Isa::Doubles y[Vectors];
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
int64_t CountAboveBound(const double* scores, int64_t n, double bound) {
  constexpr int kLanes = Isa::kLanes;
  const auto level = Isa::Broadcast(bound);
  int64_t count = 0;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) count += Isa::CountGreater(Isa::Load(scores + i), level);
  for (; i < n; ++i) count += scores[i] > bound ? 1 : 0;
  return count;
}

}  // namespace
}  // namespace doppel
