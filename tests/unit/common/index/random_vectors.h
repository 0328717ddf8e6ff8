#pragma once

#include <cmath>
#include <vector>

#include "common/base/philox.h"

namespace doppel {

// [n, dimension] unit vectors.
inline std::vector<float> RandomVectors(int64_t n, int dimension, uint64_t seed) {
  const Philox philox(seed);
  std::vector<float> vectors(static_cast<size_t>(n * dimension));
  for (int64_t i = 0; i < n; ++i) {
    double norm = 0;
    for (int d = 0; d < dimension; ++d) {
      const double x = philox.Uniform(static_cast<uint64_t>(d), static_cast<uint64_t>(i)) - 0.5;
      vectors[i * dimension + d] = static_cast<float>(x);
      norm += x * x;
    }
    for (int d = 0; d < dimension; ++d) vectors[i * dimension + d] /= static_cast<float>(std::sqrt(norm));
  }
  return vectors;
}

inline float Dot(const float* a, const float* b, int dimension) {
  double sum = 0;
  for (int d = 0; d < dimension; ++d) sum += static_cast<double>(a[d]) * static_cast<double>(b[d]);
  return static_cast<float>(sum);
}

}  // namespace doppel
