#include "miner/representation/matrix.h"

#include <gtest/gtest.h>

#include <cmath>

namespace doppel {
namespace {

TEST(MatrixTest, NormalizeRowsScalesEveryRowToUnitLength) {
  Matrix matrix{2, 2, {3, 4, 0, -2}};
  NormalizeRows(matrix);
  EXPECT_FLOAT_EQ(matrix.row(0)[0], 0.6F);
  EXPECT_FLOAT_EQ(matrix.row(0)[1], 0.8F);
  EXPECT_FLOAT_EQ(matrix.row(1)[0], 0);
  EXPECT_FLOAT_EQ(matrix.row(1)[1], -1);
}

TEST(MatrixTest, NormalizeRowsLeavesRowsOfZeros) {
  Matrix matrix{1, 3, {0, 0, 0}};
  NormalizeRows(matrix);
  for (float value : matrix.values) EXPECT_EQ(value, 0);
}

TEST(MatrixTest, NormalizeRowsCopesWithTinyAndHugeValues) {
  Matrix matrix{2, 2, {1e-30F, 1e-30F, 1e30F, 1e30F}};
  NormalizeRows(matrix);
  for (float value : matrix.values) EXPECT_NEAR(value, std::sqrt(0.5), 1e-6);
}

}  // namespace
}  // namespace doppel
