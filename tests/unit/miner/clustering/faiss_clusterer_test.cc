#include "miner/clustering/faiss_clusterer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/unit/miner/clustering/cluster_rows.h"

namespace doppel {
namespace {

using testing::Each;
using testing::HasSubstr;

TEST(FaissClusterer, FindsTheBundles) {
  const Matrix rows = Bundles(2, 500, 16, 3);
  const ClusterResult result = Cluster(rows, Options(2));
  ExpectSound(rows, result);
  EXPECT_EQ(result.centroids.rows, 2);
  EXPECT_NE(result.assignment[0], result.assignment[1]);
  for (int64_t i = 0; i < rows.rows; ++i) EXPECT_EQ(result.assignment[i], result.assignment[i % 2]);
}

TEST(FaissClusterer, EveryRowIsWithItsNearestCentroid) {
  const Matrix rows = Bundles(30, 40, 24, 5, 1.0);
  const ClusterResult result = Cluster(rows, Options(20));
  ExpectSound(rows, result);
  for (int64_t i = 0; i < rows.rows; ++i) {
    for (int64_t s = 0; s < result.centroids.rows; ++s) {
      EXPECT_LE(DotOf(rows.row(i), result.centroids.row(s), rows.dimension), result.similarity[i] + 1e-5);
    }
  }
}

TEST(FaissClusterer, TrainsOnAllRowsNotOn256PerCentroid) {
  // One iteration over one centroid gives the mean of the rows that trained.
  const Matrix rows = Bundles(1, 5000, 8, 7, 1.0);
  const ClusterResult result = Cluster(rows, Options(1, 1));
  std::vector<double> mean(8, 0);
  for (int64_t i = 0; i < rows.rows; ++i) {
    for (int j = 0; j < 8; ++j) mean[j] += rows.row(i)[j];
  }
  double square = 0;
  for (double m : mean) square += m * m;
  for (int j = 0; j < 8; ++j) EXPECT_NEAR(result.centroids.row(0)[j], mean[j] / std::sqrt(square), 1e-5);
}

TEST(FaissClusterer, ObjectiveFallsAndIsTheSumOfOneMinusCosine) {
  const Matrix rows = Bundles(50, 40, 16, 9, 1.0);
  const ClusterResult result = Cluster(rows, Options(10, 12));
  ASSERT_EQ(result.objective.size(), 12u);
  for (size_t i = 1; i < result.objective.size(); ++i)
    EXPECT_LE(result.objective[i], result.objective[i - 1] + 1e-6);
  double last = 0;
  for (float s : result.similarity) last += 1.0 - s;
  EXPECT_LE(last, result.objective.back() + 1e-6);
  EXPECT_GT(last, result.objective.back() * 0.9);
}

TEST(FaissClusterer, SameArgumentsSameResultWhateverTheThreads) {
  const Matrix rows = Bundles(40, 60, 32, 11, 1.0);
  ClusterOptions options = Options(16, 8);
  const ClusterResult first = Cluster(rows, options);
  for (int threads : {1, 2, 3}) {
    options.threads = threads;
    const ClusterResult again = Cluster(rows, options);
    EXPECT_EQ(again.centroids.values, first.centroids.values) << threads;
    EXPECT_EQ(again.assignment, first.assignment) << threads;
    EXPECT_EQ(again.objective, first.objective) << threads;
  }
}

TEST(FaissClusterer, SeedsDiffer) {
  const Matrix rows = Bundles(40, 30, 16, 11, 1.0);
  EXPECT_NE(Cluster(rows, Options(10, 3, 1)).centroids.values,
            Cluster(rows, Options(10, 3, 2)).centroids.values);
  // Beyond 32 bits, too.
  EXPECT_NE(Cluster(rows, Options(10, 3, 1)).centroids.values,
            Cluster(rows, Options(10, 3, 1 + (uint64_t{1} << 40))).centroids.values);
}

TEST(FaissClusterer, IsThreadSafe) {
  const Matrix rows = Bundles(10, 50, 16, 13, 1.0);
  const auto clusterer = MakeFaissClusterer();
  const ClusterResult expected = Cluster(rows, Options(5, 4));
  std::atomic<int> equal{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      auto result = clusterer->Cluster(rows, Options(5, 4));
      if (result.ok() && result->assignment == expected.assignment) ++equal;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(equal, 3);
}

TEST(FaissClusterer, ReportsEveryIteration) {
  const Matrix rows = Bundles(10, 50, 8, 15, 1.0);
  ClusterOptions options = Options(5, 6);
  std::vector<int> iterations;
  std::vector<double> objective;
  options.on_iteration = [&](int iteration, int of, double value) {
    EXPECT_EQ(of, 6);
    iterations.push_back(iteration);
    objective.push_back(value);
    return true;
  };
  const ClusterResult result = Cluster(rows, options);
  EXPECT_EQ(iterations, (std::vector<int>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(objective, result.objective);
}

TEST(FaissClusterer, CancelsBetweenIterations) {
  const Matrix rows = Bundles(10, 50, 8, 15, 1.0);
  ClusterOptions options = Options(5, 1000);
  int calls = 0;
  options.on_iteration = [&](int, int, double) { return ++calls < 3; };
  const absl::Status status = Error(rows, options);
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(std::string(status.message()), HasSubstr("after iteration 3 of 1000"));
  EXPECT_EQ(calls, 3);
}

TEST(FaissClusterer, CancelsWhereEveryRowIsACentroid) {
  ClusterOptions options = Options(50);
  options.on_iteration = [](int, int, double) { return false; };
  EXPECT_EQ(Error(Bundles(4, 1, 8, 1), options).code(), absl::StatusCode::kCancelled);
}

TEST(FaissClusterer, OneSubspace) {
  const Matrix rows = Bundles(3, 20, 8, 17);
  const ClusterResult result = Cluster(rows, Options(1));
  ExpectSound(rows, result);
  EXPECT_THAT(result.assignment, Each(0));
}

TEST(FaissClusterer, AsManySubspacesAsRows) {
  const Matrix rows = Bundles(12, 1, 8, 19);
  const ClusterResult result = Cluster(rows, Options(12));
  ExpectSound(rows, result);
  EXPECT_EQ(result.centroids.rows, 12);
  EXPECT_EQ(result.objective.size(), 1u);
  EXPECT_NEAR(result.objective[0], 0, 1e-4);
}

TEST(FaissClusterer, MoreSubspacesThanRowsGiveOnePerRow) {
  const Matrix rows = Bundles(5, 1, 8, 19);
  EXPECT_EQ(Cluster(rows, Options(100)).centroids.rows, 5);
  EXPECT_EQ(Cluster(Bundles(1, 1, 8, 19), Options(100)).centroids.rows, 1);
}

TEST(FaissClusterer, OneLessThanRowsEnds) {
  const Matrix rows = Bundles(30, 1, 8, 19);
  ExpectSound(rows, Cluster(rows, Options(29)));
}

TEST(FaissClusterer, IdenticalRowsEndUpInAHandfulOfSubspaces) {
  const Matrix rows = Bundles(1, 300, 8, 21, 0);
  for (int subspaces : {1, 2, 10, 299, 300}) {
    const ClusterResult result = Cluster(rows, Options(subspaces));
    ExpectSound(rows, result);
    EXPECT_EQ(result.centroids.rows + result.merged, subspaces);
    EXPECT_NEAR(result.similarity[0], 1, 1e-4);
  }
}

TEST(FaissClusterer, MoreSubspacesThanDistinctRowsEnds) {
  const Matrix rows = Bundles(3, 100, 8, 23, 0);
  const ClusterResult result = Cluster(rows, Options(50));
  ExpectSound(rows, result);
  for (int64_t i = 0; i < rows.rows; ++i) EXPECT_EQ(result.assignment[i], result.assignment[i % 3]);
}

TEST(FaissClusterer, RowsOfZerosTrainNothing) {
  Matrix rows = Bundles(2, 100, 8, 25);
  Matrix without{rows.rows - 50, 8, {rows.values.begin() + 50 * 8, rows.values.end()}};
  std::fill_n(rows.values.begin(), 50 * 8, 0.0f);
  const ClusterResult result = Cluster(rows, Options(2));
  const ClusterResult expected = Cluster(without, Options(2));
  EXPECT_EQ(result.centroids.values, expected.centroids.values);
  EXPECT_EQ(result.objective, expected.objective);
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(result.assignment[i], 0);
    EXPECT_EQ(result.similarity[i], 0);
  }
  EXPECT_TRUE(
      std::equal(expected.assignment.begin(), expected.assignment.end(), result.assignment.begin() + 50));
}

TEST(FaissClusterer, FewRowsAmongZerosEnd) {
  Matrix rows = Bundles(2, 100, 8, 25);
  std::fill_n(rows.values.begin(), 197 * 8, 0.0f);
  EXPECT_EQ(Cluster(rows, Options(10)).centroids.rows, 3);
}

TEST(FaissClusterer, MinSizeMergesWhatIsTooSmall) {
  Matrix rows = Bundles(1, 1000, 8, 27, 0.01);
  const Matrix few = Bundles(1, 3, 8, 28, 0.01);
  std::copy(few.values.begin(), few.values.end(), rows.values.begin());
  ClusterOptions options = Options(8);
  options.min_size = 50;
  const ClusterResult result = Cluster(rows, options);
  ExpectSound(rows, result);
  std::vector<int64_t> size(result.centroids.rows, 0);
  for (int32_t s : result.assignment) ++size[s];
  EXPECT_GE(*std::min_element(size.begin(), size.end()), 50);
  EXPECT_EQ(result.centroids.rows + result.merged, 8);
}

TEST(FaissClusterer, RefusesNoRows) {
  EXPECT_EQ(Error(Matrix{0, 8, {}}, Options(3)).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Error(Matrix{}, Options(3)).code(), absl::StatusCode::kInvalidArgument);
}

TEST(FaissClusterer, RefusesNothingButZeros) {
  EXPECT_EQ(Error(Matrix{4, 2, std::vector<float>(8, 0.0f)}, Options(2)).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(FaissClusterer, RefusesOptionsBelowOne) {
  const Matrix rows = Bundles(2, 10, 8, 1);
  EXPECT_THAT(std::string(Error(rows, Options(0)).message()), HasSubstr("subspaces 0"));
  EXPECT_THAT(std::string(Error(rows, Options(2, 0)).message()), HasSubstr("iterations 0"));
}

TEST(FaissClusterer, RefusesRowsThatAreNotUnit) {
  Matrix rows = Bundles(2, 10, 8, 1);
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 3.0f}) {
    rows.row(7)[2] = bad;
    const absl::Status status = Error(rows, Options(2));
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("row 7"));
  }
}

TEST(FaissClusterer, RefusesAMatrixWhoseShapeLies) {
  Matrix rows = Bundles(2, 10, 8, 1);
  rows.rows = 21;
  EXPECT_EQ(Error(rows, Options(2)).code(), absl::StatusCode::kInvalidArgument);
}

TEST(FaissClusterer, PrintsNothing) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  Cluster(Bundles(20, 2, 8, 1), Options(15));
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace doppel
