#include "miner/clustering/nearest_centroid.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "common/base/philox.h"
#include "miner/clustering/nearest_centroid_kernel.h"

namespace doppel {
namespace {

std::vector<float> Values(int64_t n, uint64_t seed, double shift = 0.5) {
  const Philox philox(seed);
  std::vector<float> values(n);
  for (int64_t i = 0; i < n; ++i) values[i] = static_cast<float>(philox.Uniform(i) - shift);
  return values;
}

struct Nearest {
  std::vector<int64_t> number;
  std::vector<float> product;

  Nearest(const std::vector<float>& rows, const std::vector<float>& centroids, int dimension, int threads = 1)
      : number(rows.size() / dimension), product(number.size()) {
    NearestCentroids(rows.data(), static_cast<int64_t>(number.size()), centroids.data(),
                     static_cast<int64_t>(centroids.size()) / dimension, dimension, threads, number.data(),
                     product.data());
  }
};

TEST(NearestCentroids, AgreesWithThePlainLoop) {
  for (int dimension : {1, 3, 64}) {
    for (int64_t m : {1, 2, 15, 16, 17, 31, 32, 33, 100}) {
      for (int64_t n : {1, 5, 13, 400}) {
        const std::vector<float> rows = Values(n * dimension, 1), centroids = Values(m * dimension, 2);
        const Nearest fast(rows, centroids, dimension);
        std::vector<int64_t> number(n);
        std::vector<float> product(n);
        NearestCentroidsPortable(rows.data(), n, centroids.data(), m, dimension, number.data(),
                                 product.data());
        for (int64_t i = 0; i < n; ++i) {
          EXPECT_NEAR(fast.product[i], product[i], 1e-5) << "n " << n << " m " << m << " d " << dimension;
          EXPECT_EQ(fast.number[i], number[i]) << "n " << n << " m " << m << " d " << dimension;
        }
      }
    }
  }
}

TEST(NearestCentroids, NegativeProductsDoNotLoseAgainstPadding) {
  const std::vector<float> rows = Values(20 * 8, 1, 0), centroids = Values(37 * 8, 2, 1);
  const Nearest nearest(rows, centroids, 8);
  for (float product : nearest.product) EXPECT_LT(product, 0);
  for (int64_t number : nearest.number) EXPECT_LT(number, 37);
}

TEST(NearestCentroids, TiesGoToTheLowerNumber) {
  std::vector<float> centroids;
  const std::vector<float> one = Values(8, 3, 0);
  for (int c = 0; c < 70; ++c) centroids.insert(centroids.end(), one.begin(), one.end());
  for (int64_t number : Nearest(Values(30 * 8, 4), centroids, 8).number) EXPECT_EQ(number, 0);
  for (int j = 0; j < 8; ++j) centroids[j] = -centroids[j];
  for (int64_t number : Nearest(Values(30 * 8, 4, 0), centroids, 8).number) EXPECT_EQ(number, 1);
}

TEST(NearestCentroids, ThreadsChangeNoBit) {
  const std::vector<float> rows = Values(3000 * 24, 5), centroids = Values(40 * 24, 6);
  const Nearest one(rows, centroids, 24, 1);
  for (int threads : {2, 3, 8}) {
    const Nearest several(rows, centroids, 24, threads);
    EXPECT_EQ(several.number, one.number);
    EXPECT_EQ(several.product, one.product);
  }
}

TEST(NearestCentroids, ARowsNeighboursChangeNoBit) {
  const std::vector<float> rows = Values(50 * 24, 5), centroids = Values(40 * 24, 6);
  const Nearest all(rows, centroids, 24);
  for (int64_t i = 0; i < 50; ++i) {
    const Nearest alone({rows.begin() + i * 24, rows.begin() + (i + 1) * 24}, centroids, 24);
    EXPECT_EQ(alone.number[0], all.number[i]);
    EXPECT_EQ(alone.product[0], all.product[i]);
  }
}

TEST(NearestCentroids, NoRows) { EXPECT_TRUE(Nearest({}, Values(16, 1), 8).number.empty()); }

#if defined(__x86_64__)
TEST(NearestCentroids, InstructionSetsAgreeToTheBit) {
  if (!__builtin_cpu_supports("avx512f")) GTEST_SKIP() << "this processor has no AVX-512";
  const NearestCentroidKernel narrow = NearestCentroidAvx2(), wide = NearestCentroidAvx512();
  const int dimension = 100, count = 30;
  const std::vector<float> rows = Values(count * dimension, 7), panel = Values(dimension * narrow.width, 8);
  std::vector<float> twice;  // the wide panel: the narrow one side by side with itself
  for (int j = 0; j < dimension; ++j) {
    for (int copy = 0; copy < wide.width / narrow.width; ++copy) {
      twice.insert(twice.end(), panel.begin() + j * narrow.width, panel.begin() + (j + 1) * narrow.width);
    }
  }
  std::vector<float> best(count * narrow.width, -1e30f), best_wide(count * wide.width, -1e30f);
  std::vector<int32_t> index(best.size(), 0), index_wide(best_wide.size(), 0);
  std::vector<const float*> row(count);
  for (int i = 0; i < count; ++i) row[i] = rows.data() + i * dimension;
  narrow.run(row.data(), count, dimension, panel.data(), 1, best.data(), index.data());
  wide.run(row.data(), count, dimension, twice.data(), 1, best_wide.data(), index_wide.data());
  for (int i = 0; i < count; ++i) {
    for (int lane = 0; lane < narrow.width; ++lane) {
      EXPECT_EQ(best[i * narrow.width + lane], best_wide[i * wide.width + lane]);
    }
  }
}
#endif

}  // namespace
}  // namespace doppel
