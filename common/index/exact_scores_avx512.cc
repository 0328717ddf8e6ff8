#include <immintrin.h>

#include "common/index/exact_scores_kernel.h"

namespace doppel {
namespace {

struct ScoresAvx512 {
  using Doubles = __m512d;
  static constexpr int kLanes = 8;

  static Doubles Load(const double* p) { return _mm512_loadu_pd(p); }
  static void Store(double* p, Doubles x) { _mm512_storeu_pd(p, x); }
  static Doubles Broadcast(double x) { return _mm512_set1_pd(x); }
  static Doubles MultiplyAdd(Doubles a, Doubles b, Doubles c) { return _mm512_fmadd_pd(a, b, c); }
  static int CountGreater(Doubles a, Doubles b) {
    return __builtin_popcount(_mm512_cmp_pd_mask(a, b, _CMP_GT_OQ));
  }
};

}  // namespace

// 24 sums, 3 vectors of the panel and 1 of the group: 28 of 32 registers.
ExactScoreKernel ExactScoresAvx512() {
  return {8, 3 * ScoresAvx512::kLanes, RunExactScores<ScoresAvx512, 8, 3>, CountAboveBound<ScoresAvx512>};
}

}  // namespace doppel
