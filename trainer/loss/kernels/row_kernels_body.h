// The loops of RowKernels. Included once per instruction set, with DOPPEL_ROW_KERNELS naming the namespace.
// No standard templates here: a copy of one compiled for a newer processor must not be linked into other
// code.

#include <cstdint>

#include "trainer/loss/kernels/row_kernels.h"

namespace doppel {
namespace DOPPEL_ROW_KERNELS {

constexpr float kNone = __builtin_inff();
// Sums of one chunk are kept in float, those of chunks in double.
constexpr int64_t kChunk = 512;

inline int64_t Smaller(int64_t a, int64_t b) { return a < b ? a : b; }

inline float SquaredDifference(const float* a, const float* b, int64_t n) {
  constexpr int64_t kWide = 64;  // several sums at once hide the latency of the additions
  float sums[kWide] = {};
  int64_t i = 0;
  for (; i + kWide <= n; i += kWide) {
#pragma omp simd
    for (int64_t l = 0; l < kWide; ++l) {
      const float d = a[i + l] - b[i + l];
      sums[l] += d * d;
    }
  }
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t l = 0; l < kWide; ++l) sum += sums[l];
  for (; i < n; ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

inline void AddDifference(const float* __restrict a, const float* __restrict b, float k, float* __restrict ga,
                          float* __restrict gb, int64_t n) {
  if (gb == nullptr) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) ga[i] += k * (a[i] - b[i]);
    return;
  }
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float d = k * (a[i] - b[i]);
    ga[i] += d;
    gb[i] -= d;
  }
}

inline void Transpose(const float* __restrict in, int64_t in_stride, float* __restrict out,
                      int64_t out_stride, int64_t rows, int64_t columns) {
  constexpr int64_t kTile = 16;
  for (int64_t j0 = 0; j0 < columns; j0 += kTile) {
    const int64_t j1 = Smaller(columns, j0 + kTile);
    for (int64_t i0 = 0; i0 < rows; i0 += kTile) {
      if (i0 + kTile <= rows && j1 == j0 + kTile) {
        float tile[kTile][kTile];
        for (int64_t i = 0; i < kTile; ++i) {
          for (int64_t j = 0; j < kTile; ++j) tile[i][j] = in[(i0 + i) * in_stride + j0 + j];
        }
        for (int64_t j = 0; j < kTile; ++j) {
          for (int64_t i = 0; i < kTile; ++i) out[(j0 + j) * out_stride + i0 + i] = tile[i][j];
        }
        continue;
      }
      const int64_t i1 = Smaller(rows, i0 + kTile);
      for (int64_t j = j0; j < j1; ++j) {
        for (int64_t i = i0; i < i1; ++i) out[j * out_stride + i] = in[i * in_stride + j];
      }
    }
  }
}

inline void AddTranspose(float* upper, float* lower, int64_t stride, int64_t rows, int64_t columns) {
  if (upper == lower) {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = i; j < columns; ++j) {
        const float sum = upper[i * stride + j] + upper[j * stride + i];
        upper[i * stride + j] = sum;
        upper[j * stride + i] = sum;
      }
    }
    return;
  }
  constexpr int64_t kTile = 16;
  for (int64_t i0 = 0; i0 < rows; i0 += kTile) {
    const int64_t i1 = Smaller(rows, i0 + kTile);
    for (int64_t j0 = 0; j0 < columns; j0 += kTile) {
      const int64_t j1 = Smaller(columns, j0 + kTile);
      for (int64_t i = i0; i < i1; ++i) {
        for (int64_t j = j0; j < j1; ++j) {
          const float sum = upper[i * stride + j] + lower[j * stride + i];
          upper[i * stride + j] = sum;
          lower[j * stride + i] = sum;
        }
      }
    }
  }
}

inline int64_t ToSquares(float* __restrict row, float norm, const float* __restrict norms, float close,
                         int64_t n) {
  int32_t found = 0;
#pragma omp simd reduction(+ : found)
  for (int64_t j = 0; j < n; ++j) {
    const float scale = norm + norms[j];
    const float square = scale + row[j];
    row[j] = square > 0 ? square : 0;
    found += square <= close * scale ? 1 : 0;
  }
  return found;
}

inline void ToEuclidean(float* row, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) row[j] = __builtin_sqrtf(row[j] + 1e-12F);
}

inline void ToCosine(float* __restrict row, float slack, const float* __restrict slacks, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) row[j] = 0.5F * row[j] + (slack + slacks[j]);
}

inline float MinBetween(const float* row, float low, float high, int64_t n) {
  float best = kNone;
#pragma omp simd reduction(min : best)
  for (int64_t j = 0; j < n; ++j) {
    const float value = row[j] > low && row[j] < high ? row[j] : kNone;
    best = value < best ? value : best;
  }
  return best;
}

inline float MinOf(const float* row, int64_t n) {
  float best = kNone;
#pragma omp simd reduction(min : best)
  for (int64_t j = 0; j < n; ++j) best = row[j] < best ? row[j] : best;
  return best;
}

inline int64_t FirstOf(const float* row, float value, int64_t begin, int64_t end) {
  for (int64_t j = begin; j < end; ++j) {
    if (row[j] == value) return j;
  }
  return -1;
}

inline int64_t Argmin(const float* row, int64_t n) {
  constexpr int64_t kPart = 128;
  float best = kNone;
  int64_t part = -1;
  for (int64_t begin = 0; begin < n; begin += kPart) {
    const float least = MinOf(row + begin, Smaller(kPart, n - begin));
    if (least < best) {
      best = least;
      part = begin;
    }
  }
  return part < 0 ? -1 : FirstOf(row, best, part, Smaller(n, part + kPart));
}

inline int64_t ArgminBetween(const float* row, float low, float high, int64_t n) {
  const float best = MinBetween(row, low, high, n);
  return best == kNone ? -1 : FirstOf(row, best, 0, n);
}

inline int64_t CountBetween(const float* row, float low, float high, int64_t n) {
  int32_t count = 0;
#pragma omp simd reduction(+ : count)
  for (int64_t j = 0; j < n; ++j) count += (row[j] > low ? 1 : 0) & (row[j] < high ? 1 : 0);
  return count;
}

inline int64_t Smallest(const float* row, int64_t n, int64_t k, float* values, int32_t* columns) {
  constexpr int64_t kPart = 64;
  int64_t size = 0;
  float worst = kNone;  // of the k best so far
  for (int64_t begin = 0; begin < n; begin += kPart) {
    const int64_t end = Smaller(n, begin + kPart);
    if (!(MinOf(row + begin, end - begin) < worst)) continue;
    for (int64_t j = begin; j < end; ++j) {
      const float value = row[j];
      if (!(value < worst)) continue;
      int64_t at = size < k ? size++ : k - 1;
      for (; at > 0 && values[at - 1] > value; --at) {
        values[at] = values[at - 1];
        columns[at] = columns[at - 1];
      }
      values[at] = value;
      columns[at] = static_cast<int32_t>(j);
      if (size == k) worst = values[k - 1];
    }
  }
  return size;
}

inline void DropSimilar(const float* __restrict row, float norm, const float* __restrict norms,
                        bool euclidean, float cap, float* __restrict out, int64_t n) {
  if (norms == nullptr) {
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) out[j] = 1 - row[j] > cap ? kNone : row[j];
    return;
  }
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) {
    const float square = euclidean ? row[j] * row[j] : row[j];
    const float doubled = norm * norm + norms[j] * norms[j] - square;
    out[j] = doubled > cap * 2 * norm * norms[j] ? kNone : row[j];
  }
}

// e^x for x <= 0 to 1e-7 of its value; what would be subnormal is about 1e-38.
inline float NegativeExp(float x) {
  x = x > -87.0F ? x : -87.0F;  // NaN, too
  const int32_t power = static_cast<int32_t>(x * 1.44269504F - 0.5F);
  const float p = static_cast<float>(power);
  const float r = x - p * 0.693359375F + p * 2.12194440e-4F;
  float y = 1.9875691500e-4F;
  y = y * r + 1.3981999507e-3F;
  y = y * r + 8.3334519073e-3F;
  y = y * r + 4.1665795894e-2F;
  y = y * r + 1.6666665459e-1F;
  y = y * r + 5.0000001201e-1F;
  y = y * r * r + r + 1.0F;
  const int32_t bits = (power + 127) << 23;
  float two_to_power;
  __builtin_memcpy(&two_to_power, &bits, sizeof(bits));
  return y * two_to_power;
}

inline double Exponentials(const float* __restrict row, float low, float inverse_temperature,
                           float* __restrict out, int64_t n) {
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += kChunk) {
    const int64_t end = Smaller(n, begin + kChunk);
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = begin; j < end; ++j) {
      const float e = NegativeExp((low - row[j]) * inverse_temperature);
      out[j] = row[j] < kNone ? e : 0.0F;
      sum += out[j];
    }
    total += sum;
  }
  return total;
}

inline float HingeOne(const float* __restrict row, int64_t n, float t, float* __restrict counts,
                      int32_t* active) {
  float sum = 0;
  int32_t on = 0;
#pragma omp simd reduction(+ : sum, on)
  for (int64_t j = 0; j < n; ++j) {
    const float z = t - row[j];
    sum += z > 0 ? z : 0;
    on += z > 0 ? 1 : 0;
    counts[j] += z > 0 ? 1.0F : 0.0F;
  }
  *active = on;
  return sum;
}

inline float HingeFour(const float* __restrict row, int64_t n, const float* t, float* __restrict counts,
                       int32_t* active) {
  const float t0 = t[0], t1 = t[1], t2 = t[2], t3 = t[3];
  float sum = 0;
  int32_t on0 = 0, on1 = 0, on2 = 0, on3 = 0;
#pragma omp simd reduction(+ : sum, on0, on1, on2, on3)
  for (int64_t j = 0; j < n; ++j) {
    const float x = row[j];
    const float z0 = t0 - x, z1 = t1 - x, z2 = t2 - x, z3 = t3 - x;
    const int32_t a0 = z0 > 0 ? 1 : 0, a1 = z1 > 0 ? 1 : 0, a2 = z2 > 0 ? 1 : 0, a3 = z3 > 0 ? 1 : 0;
    sum += ((z0 > 0 ? z0 : 0) + (z1 > 0 ? z1 : 0)) + ((z2 > 0 ? z2 : 0) + (z3 > 0 ? z3 : 0));
    on0 += a0;
    on1 += a1;
    on2 += a2;
    on3 += a3;
    counts[j] += static_cast<float>((a0 + a1) + (a2 + a3));
  }
  active[0] = on0;
  active[1] = on1;
  active[2] = on2;
  active[3] = on3;
  return sum;
}

inline double Hinge(const float* row, int64_t n, const float* thresholds, int64_t p, float* counts,
                    int64_t* active) {
  for (int64_t i = 0; i < p; ++i) active[i] = 0;
  for (int64_t j = 0; j < n; ++j) counts[j] = 0;
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += kChunk) {
    const int64_t width = Smaller(kChunk, n - begin);
    int32_t on[4];
    int64_t i = 0;
    for (; i + 4 <= p; i += 4) {
      total += HingeFour(row + begin, width, thresholds + i, counts + begin, on);
      for (int l = 0; l < 4; ++l) active[i + l] += on[l];
    }
    if (p - i == 1) {
      total += HingeOne(row + begin, width, thresholds[i], counts + begin, on);
      active[i] += on[0];
    } else if (i < p) {  // no distance is below -infinity
      float rest[4] = {-kNone, -kNone, -kNone, -kNone};
      for (int64_t l = i; l < p; ++l) rest[l - i] = thresholds[l];
      total += HingeFour(row + begin, width, rest, counts + begin, on);
      for (int64_t l = i; l < p; ++l) active[l] += on[l - i];
    }
  }
  return total;
}

inline void Ranks(const float* __restrict row, int64_t n, const float* __restrict sorted, int64_t p,
                  int32_t* __restrict ranks) {
  // Branch-free search for all columns at once: `ranks` is where each one's remaining interval begins.
  for (int64_t j = 0; j < n; ++j) ranks[j] = 0;
  int64_t width = p;
  while (width > 1) {
    const int32_t half = static_cast<int32_t>(width / 2);
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) {
      const int32_t base = ranks[j];
      ranks[j] = sorted[base + half - 1] <= row[j] ? base + half : base;
    }
    width -= half;
  }
  if (p == 0) return;
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) ranks[j] += sorted[ranks[j]] <= row[j] ? 1 : 0;
}

inline RowKernels::Sums HingeCapped(const float* __restrict row, int64_t n, float d_ap, float margin,
                                    float cap, float* __restrict weights, float* __restrict multiplicity) {
  RowKernels::Sums sums;
  for (int64_t begin = 0; begin < n; begin += kChunk) {
    const int64_t end = Smaller(n, begin + kChunk);
    float loss = 0;
    int32_t active = 0, valid = 0;
#pragma omp simd reduction(+ : loss, active, valid)
    for (int64_t j = begin; j < end; ++j) {
      const float z = d_ap - row[j];
      const int32_t counts = (row[j] < kNone ? 1 : 0) & (z <= cap ? 1 : 0);
      const int32_t on = counts & (z + margin > 0 ? 1 : 0);
      loss += on != 0 ? z + margin : 0.0F;
      active += on;
      valid += counts;
      weights[j] += static_cast<float>(on);
      multiplicity[j] += static_cast<float>(counts);
    }
    sums.loss += loss;
    sums.active += active;
    sums.valid += valid;
  }
  sums.weight = static_cast<double>(sums.active);
  return sums;
}

inline RowKernels::Sums SoftCapped(const float* __restrict row, int64_t n, float d_ap, float scale, float cap,
                                   float* __restrict weights, float* __restrict multiplicity) {
  RowKernels::Sums sums;
  for (int64_t begin = 0; begin < n; begin += kChunk) {
    const int64_t end = Smaller(n, begin + kChunk);
    float loss = 0, weight = 0;
    int32_t active = 0, valid = 0;
#pragma omp simd reduction(+ : loss, weight, active, valid)
    for (int64_t j = begin; j < end; ++j) {
      const float z = d_ap - row[j];
      const int32_t counts = (row[j] < kNone ? 1 : 0) & (z <= cap ? 1 : 0);
      const float x = scale * z;
      const float e = NegativeExp(x > 0 ? -x : x);  // e^-|x|
      const float inverse = 1.0F / (1.0F + e);
      // ln(1 + e) by the series of artanh(e / (2 + e)), which is at most 1/3.
      const float y = e / (2.0F + e), y2 = y * y;
      float series = 1.0F / 13;
      series = series * y2 + 1.0F / 11;
      series = series * y2 + 1.0F / 9;
      series = series * y2 + 1.0F / 7;
      series = series * y2 + 1.0F / 5;
      series = series * y2 + 1.0F / 3;
      series = series * y2 + 1.0F;
      const float l = (x > 0 ? x : 0.0F) + 2.0F * y * series;
      const float slope = scale * (x > 0 ? inverse : e * inverse);
      loss += counts != 0 ? l : 0.0F;
      const float counted = counts != 0 ? slope : 0.0F;
      weight += counted;
      weights[j] += counted;
      active += counts & (z > 0 ? 1 : 0);
      valid += counts;
      multiplicity[j] += static_cast<float>(counts);
    }
    sums.loss += loss;
    sums.weight += weight;
    sums.active += active;
    sums.valid += valid;
  }
  return sums;
}

inline void Bins(const float* __restrict row, int64_t n, float low, float scale, int32_t last,
                 int32_t* __restrict bins) {
  const float top = static_cast<float>(last);
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) {
    float at = (row[j] - low) * scale;
    at = at < top ? at : top;
    at = at > 0 ? at : 0;
    const int32_t bin = static_cast<int32_t>(at);
    bins[j] = row[j] < kNone ? bin : last + 1;
  }
}

inline void Range(const float* row, int64_t n, float* low, float* high) {
  float least = *low, most = *high;
#pragma omp simd reduction(min : least) reduction(max : most)
  for (int64_t j = 0; j < n; ++j) {
    least = row[j] < least ? row[j] : least;
    const float value = row[j] < kNone ? row[j] : -kNone;
    most = value > most ? value : most;
  }
  *low = least;
  *high = most;
}

inline void ToPairWeights(const float* row, const float* weights, bool euclidean, float constant, float* out,
                          int64_t n) {
  if (euclidean) {
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) out[j] = row[j] < kNone ? weights[j] / row[j] : 0.0F;
    return;
  }
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) out[j] = row[j] < kNone ? weights[j] * constant : 0.0F;
}

constexpr RowKernels kKernels = {
    SquaredDifference, AddDifference, Transpose,    AddTranspose,  ToSquares,
    ToEuclidean,       ToCosine,      Argmin,       ArgminBetween, CountBetween,
    Smallest,          DropSimilar,   Exponentials, Hinge,         Ranks,
    HingeCapped,       SoftCapped,    Bins,         Range,         ToPairWeights,
};

}  // namespace DOPPEL_ROW_KERNELS
}  // namespace doppel
