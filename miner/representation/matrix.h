#pragma once

#include <cstdint>
#include <vector>

namespace doppel {

// Rows of float32, row-major [rows, dimension]. Moved, not copied.
struct Matrix {
  int64_t rows = 0;
  int dimension = 0;
  std::vector<float> values;

  const float* row(int64_t i) const { return values.data() + i * dimension; }
  float* row(int64_t i) { return values.data() + i * dimension; }
};

// Scales every row to unit length; rows of zeros stay.
void NormalizeRows(Matrix& matrix);

}  // namespace doppel
