#include <immintrin.h>

#include "miner/neighbours/score_kernel.h"

namespace doppel {
namespace {

struct NeighboursAvx512 {
  using Floats = __m512;
  static constexpr int kLanes = 16;

  static Floats Load(const float* p) { return _mm512_loadu_ps(p); }
  static void Store(float* p, Floats x) { _mm512_storeu_ps(p, x); }
  static Floats Broadcast(float x) { return _mm512_set1_ps(x); }
  static Floats MultiplyAdd(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static uint32_t AtLeastEither(Floats x, Floats a, Floats b) {
    return static_cast<uint32_t>(_mm512_cmp_ps_mask(x, a, _CMP_GE_OQ)) |
           static_cast<uint32_t>(_mm512_cmp_ps_mask(x, b, _CMP_GE_OQ));
  }
};

}  // namespace

// 24 sums, 3 vectors of the panel and 1 of the group: 28 of 32 registers.
NeighbourKernel NeighbourKernelAvx512() {
  return {8, 3 * NeighboursAvx512::kLanes, ScoreGroup<NeighboursAvx512, 8, 3>,
          SelectScores<NeighboursAvx512>};
}

}  // namespace doppel
