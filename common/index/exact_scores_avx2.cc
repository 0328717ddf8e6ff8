#include <immintrin.h>

#include "common/index/exact_scores_kernel.h"

namespace doppel {
namespace {

struct ScoresAvx2 {
  using Doubles = __m256d;
  static constexpr int kLanes = 4;

  static Doubles Load(const double* p) { return _mm256_loadu_pd(p); }
  static void Store(double* p, Doubles x) { _mm256_storeu_pd(p, x); }
  static Doubles Broadcast(double x) { return _mm256_set1_pd(x); }
  static Doubles MultiplyAdd(Doubles a, Doubles b, Doubles c) { return _mm256_fmadd_pd(a, b, c); }
  static int CountGreater(Doubles a, Doubles b) {
    return __builtin_popcount(static_cast<unsigned>(_mm256_movemask_pd(_mm256_cmp_pd(a, b, _CMP_GT_OQ))));
  }
};

}  // namespace

// 12 sums, 3 vectors of the panel and 1 of the group: all 16 registers.
ExactScoreKernel ExactScoresAvx2() {
  return {4, 3 * ScoresAvx2::kLanes, RunExactScores<ScoresAvx2, 4, 3>, CountAboveBound<ScoresAvx2>};
}

}  // namespace doppel
