#pragma once

#include <cstdint>
#include <vector>

#include "miner/representation/matrix.h"

namespace doppel {

// All rows of a matrix, or those in a list, without a copy. Owns nothing.
struct RowView {
  const float* values = nullptr;
  int dimension = 0;
  const int32_t* list = nullptr;  // null: rows 0, 1, … count - 1
  int64_t count = 0;

  static RowView All(const Matrix& matrix) {
    return {matrix.values.data(), matrix.dimension, nullptr, matrix.rows};
  }
  static RowView Of(const Matrix& matrix, const std::vector<int32_t>& list) {
    return {matrix.values.data(), matrix.dimension, list.data(), static_cast<int64_t>(list.size())};
  }

  RowView Part(int64_t begin, int64_t size) const {
    if (list != nullptr) return {values, dimension, list + begin, size};
    return {values + begin * dimension, dimension, nullptr, size};
  }

  const float* row(int64_t i) const { return values + (list == nullptr ? i : list[i]) * int64_t{dimension}; }
};

}  // namespace doppel
