#include <immintrin.h>

#include "miner/clustering/nearest_centroid_kernel.h"

namespace doppel {
namespace {

struct Avx2 {
  using Floats = __m256;
  static constexpr int kLanes = 8;

  static Floats Load(const float* p) { return _mm256_loadu_ps(p); }
  static Floats Broadcast(float x) { return _mm256_set1_ps(x); }
  static Floats MultiplyAdd(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
  static void KeepBetter(Floats sum, int32_t number, float* best, int32_t* index) {
    const Floats before = _mm256_loadu_ps(best);
    const Floats better = _mm256_cmp_ps(sum, before, _CMP_GT_OQ);
    _mm256_storeu_ps(best, _mm256_blendv_ps(before, sum, better));
    _mm256_maskstore_epi32(index, _mm256_castps_si256(better), _mm256_set1_epi32(number));
  }
};

}  // namespace

// 12 sums, 2 vectors of the panel and 1 of the row: 15 of 16 registers.
NearestCentroidKernel NearestCentroidAvx2() { return {2 * Avx2::kLanes, RunPanel<Avx2, 6>}; }

}  // namespace doppel
