#include "services/miner_server/similarity_kernel.h"

#include <algorithm>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace doppel {
namespace {

#if defined(__x86_64__)

__attribute__((target("avx2"))) bool ScoreAvx2(const uint32_t* group, const uint32_t* panel,
                                               size_t dimensions, int32_t bound, int32_t* scores) {
  constexpr size_t kLanes = 8, kRows = 4, kVectors = 2;  // 8 sums at once
  const __m256i least = _mm256_set1_epi32(bound);
  bool reached = false;
  for (size_t row = 0; row < kSimilarityRows; row += kRows) {
    for (size_t column = 0; column < kSimilarityWidth; column += kVectors * kLanes) {
      __m256i sums[kRows][kVectors] = {};
      for (size_t d = 0; d < dimensions; ++d) {
        const uint32_t* const place = panel + d * kSimilarityWidth + column;
        __m256i y[kVectors];
        for (size_t v = 0; v < kVectors; ++v) {
          y[v] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(place + v * kLanes));
        }
        for (size_t r = 0; r < kRows; ++r) {
          const __m256i x = _mm256_set1_epi32(static_cast<int>(group[d * kSimilarityWidth + row + r]));
          for (size_t v = 0; v < kVectors; ++v) {
            sums[r][v] = _mm256_add_epi32(sums[r][v], _mm256_madd_epi16(x, y[v]));
          }
        }
      }
      for (size_t r = 0; r < kRows; ++r) {
        for (size_t v = 0; v < kVectors; ++v) {
          int32_t* const out = scores + (row + r) * kSimilarityWidth + column + v * kLanes;
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), sums[r][v]);
          reached |= _mm256_movemask_epi8(_mm256_cmpgt_epi32(least, sums[r][v])) != -1;
        }
      }
    }
  }
  return reached;
}

__attribute__((target("avx512f,avx512bw,avx512vnni"))) bool ScoreAvx512(const uint32_t* group,
                                                                        const uint32_t* panel,
                                                                        size_t dimensions, int32_t bound,
                                                                        int32_t* scores) {
  constexpr size_t kLanes = 16, kVectors = kSimilarityWidth / kLanes;  // 16 sums at once
  __m512i sums[kSimilarityRows][kVectors];
  for (auto& row : sums) {
    for (__m512i& sum : row) sum = _mm512_setzero_si512();
  }
  for (size_t d = 0; d < dimensions; ++d) {
    __m512i y[kVectors];
    for (size_t v = 0; v < kVectors; ++v)
      y[v] = _mm512_loadu_si512(panel + d * kSimilarityWidth + v * kLanes);
    for (size_t r = 0; r < kSimilarityRows; ++r) {
      const __m512i x = _mm512_set1_epi32(static_cast<int>(group[d * kSimilarityWidth + r]));
      for (size_t v = 0; v < kVectors; ++v) sums[r][v] = _mm512_dpwssd_epi32(sums[r][v], x, y[v]);
    }
  }
  const __m512i least = _mm512_set1_epi32(bound);
  bool reached = false;
  for (size_t r = 0; r < kSimilarityRows; ++r) {
    for (size_t v = 0; v < kVectors; ++v) {
      reached |= _mm512_cmpge_epi32_mask(sums[r][v], least) != 0;
      _mm512_storeu_si512(scores + r * kSimilarityWidth + v * kLanes, sums[r][v]);
    }
  }
  return reached;
}

#endif

}  // namespace

void ToFixedPoint(const float* row, size_t dimensions, int16_t* fixed) {
  for (size_t d = 0; d < dimensions; ++d) {
    const float scaled = row[d] * kSimilarityFixedPoint;
    const float limited = std::min(32767.0F, std::max(-32767.0F, scaled));  // what is no number, too
    fixed[d] = static_cast<int16_t>(static_cast<int32_t>(limited + (limited < 0 ? -0.5F : 0.5F)));
  }
}

void AddRow(const float* row, size_t dimensions, float* sum, float* squares) {
  for (size_t d = 0; d < dimensions; ++d) {
    sum[d] += row[d];
    squares[d] += row[d] * row[d];
  }
}

bool PortableSimilarityKernel(const uint32_t* group, const uint32_t* panel, size_t pairs_of_dimensions,
                              int32_t bound, int32_t* scores) {
  const auto low = [](uint32_t pair) { return static_cast<int16_t>(pair & 0xFFFF); };
  const auto high = [](uint32_t pair) { return static_cast<int16_t>(pair >> 16); };
  std::memset(scores, 0, kSimilarityRows * kSimilarityWidth * sizeof(*scores));
  for (size_t d = 0; d < pairs_of_dimensions; ++d) {
    for (size_t r = 0; r < kSimilarityRows; ++r) {
      const uint32_t x = group[d * kSimilarityWidth + r];
      for (size_t c = 0; c < kSimilarityWidth; ++c) {
        const uint32_t y = panel[d * kSimilarityWidth + c];
        // Wraps where int32 ends, as the instructions do.
        const auto product =
            static_cast<uint32_t>(low(x) * low(y)) + static_cast<uint32_t>(high(x) * high(y));
        int32_t& score = scores[r * kSimilarityWidth + c];
        score = static_cast<int32_t>(static_cast<uint32_t>(score) + product);
      }
    }
  }
  return std::any_of(scores, scores + kSimilarityRows * kSimilarityWidth,
                     [bound](int32_t score) { return score >= bound; });
}

SimilarityKernel SimilarityKernelOfThisProcessor() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512vnni") != 0 && __builtin_cpu_supports("avx512bw") != 0) {
    return ScoreAvx512;
  }
  if (__builtin_cpu_supports("avx2") != 0) return ScoreAvx2;
#endif
  return PortableSimilarityKernel;
}

}  // namespace doppel
