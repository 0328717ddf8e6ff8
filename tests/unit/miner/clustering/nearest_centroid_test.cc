#include "miner/clustering/nearest_centroid.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "common/base/philox.h"
#include "miner/clustering/nearest_centroid_kernel.h"
#include "miner/clustering/packed_centroids.h"

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

TEST(NearestCentroids, OnlyTheLanesWithACentroidCount) {
  const NearestCentroidKernel kernel = BestNearestCentroidKernel();
  const std::vector<float> row = Values(8, 1, 0), centroid = Values(8, 2, 1);  // negative products
  const PackedCentroids packed(kernel, centroid.data(), 1, 8);
  const float* rows[] = {row.data()};
  float best = 0, second = 0;
  int32_t lane = -1;
  kernel.top(rows, 1, 8, packed.panel(0), packed.lanes(0), &best, &lane, &second);
  EXPECT_EQ(lane, 0);
  EXPECT_LT(best, 0);
  EXPECT_EQ(second, -std::numeric_limits<float>::infinity());
}

TEST(NearestCentroids, TheSecondIsTheBestOfTheOthers) {
  for (int m : {2, 5, 16, 17, 32}) {
    const NearestCentroidKernel kernel = BestNearestCentroidKernel();
    if (m > kernel.width) continue;
    const std::vector<float> row = Values(40, 1), centroids = Values(m * 40, 2);
    const PackedCentroids packed(kernel, centroids.data(), m, 40);
    const float* rows[] = {row.data()};
    float best = 0, second = 0;
    int32_t lane = -1;
    kernel.top(rows, 1, 40, packed.panel(0), packed.lanes(0), &best, &lane, &second);
    std::vector<float> products;
    for (int c = 0; c < m; ++c) {
      products.push_back(std::inner_product(row.begin(), row.end(), centroids.begin() + c * 40, 0.0f));
    }
    EXPECT_EQ(lane, std::max_element(products.begin(), products.end()) - products.begin());
    std::sort(products.rbegin(), products.rend());
    EXPECT_NEAR(best, products[0], 1e-5);
    EXPECT_NEAR(second, products[1], 1e-5);
  }
}

TEST(PackedCentroids, TheOrderByNeighbourhoodIsAPermutationAscendingWithinAPanel) {
  const NearestCentroidKernel kernel = BestNearestCentroidKernel();
  const std::vector<float> centroids = Values(int64_t{150} * 8, 3);
  std::vector<int32_t> order = OrderByNeighbourhood(kernel, centroids.data(), 150, 8);
  for (size_t at = 1; at < order.size(); ++at) {
    EXPECT_TRUE(at % kernel.width == 0 || order[at - 1] < order[at]);
  }
  std::sort(order.begin(), order.end());
  for (int c = 0; c < 150; ++c) EXPECT_EQ(order[c], c);
}

#if defined(__x86_64__)
TEST(NearestCentroids, InstructionSetsAgreeToTheBit) {
  if (!__builtin_cpu_supports("avx512f")) GTEST_SKIP() << "this processor has no AVX-512";
  const int dimension = 100, count = 31, m = 16;
  const std::vector<float> values = Values(count * dimension, 7), centroids = Values(dimension * m, 8);
  std::vector<const float*> rows(count);
  for (int i = 0; i < count; ++i) rows[i] = values.data() + i * dimension;
  struct Top {
    std::vector<float> best, second, dot;
    std::vector<int32_t> lane;
  };
  std::vector<Top> tops;
  for (const NearestCentroidKernel& kernel : {NearestCentroidAvx2(), NearestCentroidAvx512()}) {
    const PackedCentroids packed(kernel, centroids.data(), m, dimension);
    Top top{std::vector<float>(count), std::vector<float>(count), {}, std::vector<int32_t>(count)};
    kernel.top(rows.data(), count, dimension, packed.panel(0), m, top.best.data(), top.lane.data(),
               top.second.data());
    for (const float* row : rows) top.dot.push_back(kernel.dot(row, centroids.data(), dimension));
    tops.push_back(top);
  }
  EXPECT_EQ(tops[0].best, tops[1].best);
  EXPECT_EQ(tops[0].second, tops[1].second);
  EXPECT_EQ(tops[0].lane, tops[1].lane);
  EXPECT_EQ(tops[0].dot, tops[1].dot);
}
#endif

}  // namespace
}  // namespace doppel
