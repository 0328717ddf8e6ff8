#include "miner/clustering/lloyd.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "miner/clustering/alignment.h"
#include "miner/clustering/seeding.h"
#include "tests/unit/miner/clustering/cluster_rows.h"

namespace doppel {
namespace {

using testing::HasSubstr;

double Last(const ClusterResult& result) {
  double sum = 0;
  for (float s : result.similarity) sum += 1.0 - s;
  return sum;
}

// Every pair of dimensions turned by `radians`.
Matrix Turned(const Matrix& rows, double radians) {
  Matrix turned = rows;
  const double c = std::cos(radians), s = std::sin(radians);
  for (int64_t i = 0; i < rows.rows; ++i) {
    for (int j = 0; j + 1 < rows.dimension; j += 2) {
      turned.row(i)[j] = static_cast<float>(c * rows.row(i)[j] - s * rows.row(i)[j + 1]);
      turned.row(i)[j + 1] = static_cast<float>(s * rows.row(i)[j] + c * rows.row(i)[j + 1]);
    }
  }
  return turned;
}

TEST(Lloyd, GoesAsFaissGoes) {
  for (int subspaces : {2, 7, 16, 33, 150}) {
    for (int dimension : {5, 32}) {
      const Matrix rows = Bundles(40, 50, dimension, 31, 1.0);
      ClusterOptions options = Options(subspaces, 8);
      options.seeding = Seeding::kRandom;
      const ClusterResult ours = Cluster(rows, options);
      options.engine = ClusterEngine::kFaiss;
      const ClusterResult faiss = Cluster(rows, options);
      ASSERT_LE(ours.objective.size(), faiss.objective.size());
      for (size_t i = 0; i < ours.objective.size(); ++i) {
        EXPECT_NEAR(ours.objective[i], faiss.objective[i], 1e-3 * faiss.objective[i] + 1e-3)
            << subspaces << " x " << dimension << " iteration " << i;
      }
      EXPECT_GT(NormalizedMutualInformation(ours.assignment, faiss.assignment), 0.98);
    }
  }
}

// One step by hand: the bounds must have left nothing out.
TEST(Lloyd, AllRowsAreWithTheirNearestAfterManyBoundedIterations) {
  for (int subspaces : {3, 40, 200}) {
    const Matrix rows = Bundles(100, 12, 24, 33, 0.8);
    const ClusterResult result = Cluster(rows, Options(subspaces, 25));
    ExpectSound(rows, result);
    for (int64_t i = 0; i < rows.rows; ++i) {
      for (int64_t s = 0; s < result.centroids.rows; ++s) {
        ASSERT_LE(DotOf(rows.row(i), result.centroids.row(s), rows.dimension), result.similarity[i] + 1e-5);
      }
    }
  }
}

TEST(Lloyd, CentroidsAreTheDirectionsOfTheirRowsOnceNothingMoves) {
  const Matrix rows = Bundles(12, 100, 16, 35, 0.9);
  const ClusterResult result = Cluster(rows, Options(9, 500));
  EXPECT_LT(result.objective.size(), 500u);
  std::vector<double> sum(result.centroids.values.size(), 0);
  for (int64_t i = 0; i < rows.rows; ++i) {
    for (int j = 0; j < 16; ++j) sum[result.assignment[i] * 16 + j] += rows.row(i)[j];
  }
  for (int64_t s = 0; s < result.centroids.rows; ++s) {
    double square = 0;
    for (int j = 0; j < 16; ++j) square += sum[s * 16 + j] * sum[s * 16 + j];
    for (int j = 0; j < 16; ++j) {
      EXPECT_NEAR(result.centroids.row(s)[j], sum[s * 16 + j] / std::sqrt(square), 1e-6);
    }
  }
  EXPECT_NEAR(result.objective.back(), Last(result), 1e-3);
}

TEST(Lloyd, ThreadsChangeNoBitWithManyGroups) {
  const Matrix rows = Bundles(300, 15, 64, 37, 0.9);
  ClusterOptions options = Options(220, 12);
  options.seeding = Seeding::kPlusPlus;
  options.threads = 1;
  const ClusterResult one = Cluster(rows, options);
  for (int threads : {2, 5}) {
    options.threads = threads;
    const ClusterResult several = Cluster(rows, options);
    EXPECT_EQ(several.centroids.values, one.centroids.values);
    EXPECT_EQ(several.assignment, one.assignment);
    EXPECT_EQ(several.similarity, one.similarity);
    EXPECT_EQ(several.objective, one.objective);
  }
}

TEST(Lloyd, StopsEarlyByTolerance) {
  const Matrix rows = Bundles(50, 60, 16, 39, 1.0);
  ClusterOptions options = Options(10, 200);
  const ClusterResult whole = Cluster(rows, options);
  for (ClusterEngine engine : {ClusterEngine::kLloyd, ClusterEngine::kFaiss}) {
    options.engine = engine;
    options.tolerance = 0.01;
    const ClusterResult result = Cluster(rows, options);
    const size_t n = result.objective.size();
    ASSERT_GE(n, 2u);
    EXPECT_LT(n, whole.objective.size());
    EXPECT_LT(result.objective[n - 2] - result.objective[n - 1], 0.01 * result.objective[n - 2]);
    if (n > 2) {
      EXPECT_GE(result.objective[n - 3] - result.objective[n - 2], 0.01 * result.objective[n - 3]);
    }
    ExpectSound(rows, result);
  }
}

TEST(Seeding, PlusPlusFindsEveryBundleWhereRandomDoesNot) {
  const Matrix rows = Bundles(40, 50, 16, 41, 0.02);
  ClusterOptions options = Options(40, 20);
  options.seeding = Seeding::kRandom;
  const double random = Last(Cluster(rows, options));
  options.seeding = Seeding::kPlusPlus;
  const ClusterResult result = Cluster(rows, options);
  EXPECT_LT(Last(result) * 3, random);
  EXPECT_EQ(result.centroids.rows, 40);
}

TEST(Seeding, PlusPlusIsOfTheSeed) {
  const Matrix rows = Bundles(40, 50, 16, 41, 0.5);
  ClusterOptions options = Options(20);
  options.seeding = Seeding::kPlusPlus;
  const Matrix one = *FirstCentroids(RowView::All(rows), options, 1);
  EXPECT_EQ(FirstCentroids(RowView::All(rows), options, 3)->values, one.values);
  options.seed = 2;
  EXPECT_NE(FirstCentroids(RowView::All(rows), options, 1)->values, one.values);
}

TEST(Seeding, MoreThanDistinctRows) {
  const Matrix rows = Bundles(3, 100, 8, 43, 0);
  ClusterOptions options = Options(20);
  options.seeding = Seeding::kPlusPlus;
  ExpectSound(rows, Cluster(rows, options));
}

TEST(WarmStart, FromItsOwnResultNothingMoves) {
  const Matrix rows = Bundles(30, 60, 16, 45, 0.9);
  const ClusterResult first = Cluster(rows, Options(12, 300));
  ClusterOptions options = Options(12, 300, 99);
  options.initial_centroids = &first.centroids;
  const ClusterResult again = Cluster(rows, options);
  EXPECT_EQ(again.assignment, first.assignment);
  EXPECT_LE(again.objective.size(), 3u);
  ClusterOptions by_assignment = Options(12, 300, 99);
  by_assignment.initial_assignment = &first.assignment;
  EXPECT_EQ(Cluster(rows, by_assignment).assignment, first.assignment);
}

TEST(WarmStart, IsTheSameForFaissEngine) {
  const Matrix rows = Bundles(30, 60, 16, 45, 0.9);
  const ClusterResult first = Cluster(rows, Options(12, 300));
  ClusterOptions options = Options(12, 3);
  options.engine = ClusterEngine::kFaiss;
  options.initial_centroids = &first.centroids;
  EXPECT_EQ(Cluster(rows, options).assignment, first.assignment);
}

TEST(WarmStart, ByAssignmentDoesNotMindThatTheSpaceHasTurned) {
  const Matrix rows = Bundles(30, 60, 16, 47, 0.9);
  const ClusterResult first = Cluster(rows, Options(12, 300));
  const Matrix turned = Turned(rows, 1.3);
  ClusterOptions options = Options(12, 300);
  options.initial_assignment = &first.assignment;
  const ClusterResult again = Cluster(turned, options);
  EXPECT_EQ(again.assignment, first.assignment);
  EXPECT_LE(again.objective.size(), 3u);
}

TEST(WarmStart, FewerCentroidsAreFilledUp) {
  const Matrix rows = Bundles(30, 60, 16, 49, 0.1);
  const ClusterResult few = Cluster(rows, Options(5, 50));
  ClusterOptions options = Options(30, 30);
  options.initial_centroids = &few.centroids;
  const ClusterResult result = Cluster(rows, options);
  ExpectSound(rows, result);
  EXPECT_EQ(result.centroids.rows + result.merged, 30);
  EXPECT_LT(Last(result), Last(few) / 2);
}

TEST(WarmStart, OfMoreCentroidsTheBusiestStay) {
  Matrix rows = Bundles(3, 100, 16, 51, 0.02);
  // 100 rows each, but bundle 2 keeps only 10.
  Matrix fewer{0, 16, {}};
  for (int64_t i = 0; i < rows.rows; ++i) {
    if (i % 3 == 2 && i > 30) continue;
    fewer.values.insert(fewer.values.end(), rows.row(i), rows.row(i) + 16);
    ++fewer.rows;
  }
  const Matrix centroids{3, 16, {rows.values.begin(), rows.values.begin() + 48}};
  ClusterOptions options = Options(2);
  options.initial_centroids = &centroids;
  const Matrix first = *FirstCentroids(RowView::All(fewer), options, 1);
  EXPECT_NEAR(DotOf(first.row(0), centroids.row(0), 16), 1, 1e-5);
  EXPECT_NEAR(DotOf(first.row(1), centroids.row(1), 16), 1, 1e-5);
}

TEST(WarmStart, RowsThatHadNoneAndRowsOfZeros) {
  Matrix rows = Bundles(4, 50, 16, 53, 0.05);
  std::fill_n(rows.row(8), 16, 0.0f);
  std::vector<int32_t> before(rows.rows);
  for (int64_t i = 0; i < rows.rows; ++i) before[i] = i < 40 ? static_cast<int32_t>(i % 4) : -1;
  ClusterOptions options = Options(4);
  options.initial_assignment = &before;
  const ClusterResult result = Cluster(rows, options);
  for (int64_t i = 0; i < rows.rows; ++i) {
    EXPECT_EQ(result.assignment[i], i == 8 ? 0 : static_cast<int32_t>(i % 4)) << i;
  }
  EXPECT_EQ(result.similarity[8], 0);
}

TEST(WarmStart, RefusesWhatDoesNotFit) {
  const Matrix rows = Bundles(4, 50, 16, 53);
  ClusterOptions options = Options(4);
  Matrix centroids = Bundles(4, 1, 8, 1);
  options.initial_centroids = &centroids;
  EXPECT_THAT(std::string(Error(rows, options).message()), HasSubstr("dimension 16"));
  centroids = Bundles(4, 1, 16, 1);
  std::fill_n(centroids.row(2), 16, 0.0f);
  EXPECT_THAT(std::string(Error(rows, options).message()), HasSubstr("centroid 2"));
  centroids.row(2)[0] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(std::string(Error(rows, options).message()), HasSubstr("centroid 2"));
  options.initial_centroids = nullptr;
  std::vector<int32_t> before(rows.rows - 1, 0);
  options.initial_assignment = &before;
  EXPECT_EQ(Error(rows, options).code(), absl::StatusCode::kInvalidArgument);
  before.assign(rows.rows, -2);
  EXPECT_EQ(Error(rows, options).code(), absl::StatusCode::kInvalidArgument);
  before.assign(rows.rows, 2000000000);
  EXPECT_EQ(Error(rows, options).code(), absl::StatusCode::kInvalidArgument);
}

TEST(WarmStart, FromAnAssignmentThatSaysNothing) {
  const Matrix rows = Bundles(4, 50, 16, 53);
  const std::vector<int32_t> before(rows.rows, -1);
  ClusterOptions options = Options(4);
  options.initial_assignment = &before;
  ExpectSound(rows, Cluster(rows, options));
}

TEST(TwoLevels, MakesAsManyAsAsked) {
  const Matrix rows = Bundles(100, 30, 16, 55, 0.3);
  ClusterOptions options = Options(64, 12);
  options.two_level_above = 50;
  const ClusterResult result = Cluster(rows, options);
  ExpectSound(rows, result);
  EXPECT_EQ(result.centroids.rows + result.merged, 64);
  options.two_level_above = 0;
  options.seeding = Seeding::kPlusPlus;
  EXPECT_LT(Last(result), 1.4 * Last(Cluster(rows, options)));
  for (size_t i = 1; i < result.objective.size(); ++i) {
    EXPECT_LE(result.objective[i], result.objective[i - 1] * 1.001);
  }
}

TEST(TwoLevels, ThreadsChangeNoBit) {
  const Matrix rows = Bundles(100, 20, 16, 57, 0.5);
  ClusterOptions options = Options(64, 8);
  options.two_level_above = 50;
  options.threads = 1;
  const ClusterResult one = Cluster(rows, options);
  options.threads = 4;
  const ClusterResult several = Cluster(rows, options);
  EXPECT_EQ(several.centroids.values, one.centroids.values);
  EXPECT_EQ(several.assignment, one.assignment);
  EXPECT_EQ(several.objective, one.objective);
}

TEST(TwoLevels, NearlyAsManySubspacesAsRowsAndRowsOfZeros) {
  Matrix rows = Bundles(100, 2, 16, 59, 0.5);
  std::fill_n(rows.row(0), 16 * 20, 0.0f);
  ClusterOptions options = Options(170, 8);
  options.two_level_above = 50;
  const ClusterResult result = Cluster(rows, options);
  EXPECT_EQ(result.centroids.rows + result.merged, 170);
}

TEST(TwoLevels, CancelsOnEitherLevel) {
  const Matrix rows = Bundles(100, 20, 16, 57, 0.5);
  for (int allowed : {1, 6}) {
    ClusterOptions options = Options(64, 8);
    options.two_level_above = 50;
    options.on_iteration = [&](int iteration, int of, double) {
      EXPECT_EQ(of, 8);
      return iteration < allowed;
    };
    EXPECT_EQ(Error(rows, options).code(), absl::StatusCode::kCancelled);
  }
}

TEST(ClusterOptions, BoundsThatContradictThemselvesAreRefused) {
  const Matrix rows = Bundles(4, 50, 16, 53);
  ClusterOptions options = Options(4);
  options.min_size = 10;
  options.max_size = 19;
  EXPECT_THAT(std::string(Error(rows, options).message()), HasSubstr("max_size 19"));
  options.max_size = 20;
  EXPECT_TRUE(Error(rows, options).ok());
  options.balance = 0.5;
  EXPECT_THAT(std::string(Error(rows, options).message()), HasSubstr("balance 0.5"));
  options.balance = 0;
  options.tolerance = 1;
  EXPECT_THAT(std::string(Error(rows, options).message()), HasSubstr("tolerance 1"));
}

}  // namespace
}  // namespace doppel
