#include <immintrin.h>

#include "miner/clustering/nearest_centroid_kernel.h"

namespace doppel {
namespace {

struct Avx2 {
  using Floats = __m256;
  static constexpr int kLanes = 8;

  static Floats Load(const float* p) { return _mm256_loadu_ps(p); }
  static void Store(float* p, Floats x) { _mm256_storeu_ps(p, x); }
  static Floats Broadcast(float x) { return _mm256_set1_ps(x); }
  static Floats MultiplyAdd(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
  static void TopTwo(Floats low, Floats high, bool both, float* best, int32_t* lane, float* second) {
    const Floats least = _mm256_set1_ps(-__builtin_inff());
    if (!both) high = least;
    const float top = Highest(_mm256_max_ps(low, high));
    const Floats all_top = _mm256_set1_ps(top);
    unsigned found = static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(low, all_top, _CMP_EQ_OQ)));
    if (both) {
      found |= static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(high, all_top, _CMP_EQ_OQ))) << kLanes;
    }
    const int first = found == 0 ? 0 : __builtin_ctz(found);  // 0: not a number
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i in_low = _mm256_cmpeq_epi32(lanes, _mm256_set1_epi32(first));
    const __m256i in_high = _mm256_cmpeq_epi32(lanes, _mm256_set1_epi32(first - kLanes));
    *best = top;
    *lane = first;
    *second = Highest(_mm256_max_ps(_mm256_blendv_ps(low, least, _mm256_castsi256_ps(in_low)),
                                    _mm256_blendv_ps(high, least, _mm256_castsi256_ps(in_high))));
  }

 private:
  static float Highest(Floats x) {
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
  }
};

}  // namespace

// 12 sums, 2 vectors of the panel and 1 of the row: 15 of 16 registers.
NearestCentroidKernel NearestCentroidAvx2() {
  return {2 * Avx2::kLanes, TopOfPanel<Avx2, 6>, DotOfRows<Avx2>, AddRow<1>, AddRow<-1>};
}

}  // namespace doppel
