#include <immintrin.h>

#include "miner/clustering/nearest_centroid_kernel.h"

namespace doppel {
namespace {

struct Avx512 {
  using Floats = __m512;
  static constexpr int kLanes = 16;

  static Floats Load(const float* p) { return _mm512_loadu_ps(p); }
  static void Store(float* p, Floats x) { _mm512_storeu_ps(p, x); }
  static Floats Broadcast(float x) { return _mm512_set1_ps(x); }
  static Floats MultiplyAdd(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static void TopTwo(Floats low, Floats high, bool both, float* best, int32_t* lane, float* second) {
    const Floats least = _mm512_set1_ps(-__builtin_inff());
    if (!both) high = least;
    const float top = _mm512_reduce_max_ps(_mm512_max_ps(low, high));
    const Floats all_top = _mm512_set1_ps(top);
    const unsigned found =
        _mm512_cmp_ps_mask(low, all_top, _CMP_EQ_OQ) |
        (both ? static_cast<unsigned>(_mm512_cmp_ps_mask(high, all_top, _CMP_EQ_OQ)) << kLanes : 0);
    const unsigned first = found & (0 - found);
    const Floats rest =
        _mm512_max_ps(_mm512_mask_mov_ps(low, static_cast<__mmask16>(first), least),
                      _mm512_mask_mov_ps(high, static_cast<__mmask16>(first >> kLanes), least));
    *best = top;
    *lane = found == 0 ? 0 : __builtin_ctz(found);  // 0: not a number
    *second = _mm512_reduce_max_ps(rest);
  }
};

}  // namespace

// 24 sums, 2 vectors of the panel and 1 of the row: 27 of 32 registers.
NearestCentroidKernel NearestCentroidAvx512() {
  return {2 * Avx512::kLanes, TopOfPanel<Avx512, 12>, DotOfRows<Avx512>, AddRow<1>, AddRow<-1>};
}

}  // namespace doppel
