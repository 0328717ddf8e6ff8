#include "miner/representation/matrix.h"

#include <cmath>

namespace doppel {

void NormalizeRows(Matrix& matrix) {
  for (int64_t i = 0; i < matrix.rows; ++i) {
    float* row = matrix.row(i);
    double squares = 0;
    for (int d = 0; d < matrix.dimension; ++d) squares += static_cast<double>(row[d]) * row[d];
    if (squares == 0) continue;
    const double scale = 1 / std::sqrt(squares);
    for (int d = 0; d < matrix.dimension; ++d) row[d] = static_cast<float>(row[d] * scale);
  }
}

}  // namespace doppel
