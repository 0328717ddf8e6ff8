#include <immintrin.h>

#include "miner/neighbours/score_kernel.h"

namespace doppel {
namespace {

struct NeighboursAvx2 {
  using Floats = __m256;
  static constexpr int kLanes = 8;

  static Floats Load(const float* p) { return _mm256_loadu_ps(p); }
  static void Store(float* p, Floats x) { _mm256_storeu_ps(p, x); }
  static Floats Broadcast(float x) { return _mm256_set1_ps(x); }
  static Floats MultiplyAdd(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
  static uint32_t AtLeastEither(Floats x, Floats a, Floats b) {
    const Floats reached = _mm256_or_ps(_mm256_cmp_ps(x, a, _CMP_GE_OQ), _mm256_cmp_ps(x, b, _CMP_GE_OQ));
    return static_cast<uint32_t>(_mm256_movemask_ps(reached));
  }
};

}  // namespace

// 12 sums, 3 vectors of the panel and 1 of the group: all 16 registers.
NeighbourKernel NeighbourKernelAvx2() {
  return {4, 3 * NeighboursAvx2::kLanes, ScoreGroup<NeighboursAvx2, 4, 3>, SelectScores<NeighboursAvx2>};
}

}  // namespace doppel
