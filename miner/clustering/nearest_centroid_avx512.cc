#include <immintrin.h>

#include "miner/clustering/nearest_centroid_kernel.h"

namespace doppel {
namespace {

struct Avx512 {
  using Floats = __m512;
  static constexpr int kLanes = 16;

  static Floats Load(const float* p) { return _mm512_loadu_ps(p); }
  static Floats Broadcast(float x) { return _mm512_set1_ps(x); }
  static Floats MultiplyAdd(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static void KeepBetter(Floats sum, int32_t number, float* best, int32_t* index) {
    const __mmask16 better = _mm512_cmp_ps_mask(sum, _mm512_loadu_ps(best), _CMP_GT_OQ);
    _mm512_mask_storeu_ps(best, better, sum);
    _mm512_mask_storeu_epi32(index, better, _mm512_set1_epi32(number));
  }
};

}  // namespace

// 24 sums, 2 vectors of the panel and 1 of the row: 27 of 32 registers.
NearestCentroidKernel NearestCentroidAvx512() { return {2 * Avx512::kLanes, RunPanel<Avx512, 12>}; }

}  // namespace doppel
