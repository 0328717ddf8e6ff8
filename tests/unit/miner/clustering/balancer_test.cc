#include "miner/clustering/balancer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

namespace doppel {
namespace {

using testing::ElementsAre;
using testing::FloatNear;

// Unit rows in the plane at these angles (degrees), each subspace's centroid at the mean direction of its
// rows.
struct Circle {
  Matrix rows;
  ClusterResult result;

  Circle(const std::vector<double>& degrees, std::vector<int32_t> assignment,
         const std::vector<double>& centroids) {
    rows = Rows(degrees);
    result.centroids = Rows(centroids);
    result.assignment = std::move(assignment);
    for (int64_t i = 0; i < rows.rows; ++i) {
      const float* c = result.centroids.row(result.assignment[i]);
      result.similarity.push_back(c[0] * rows.row(i)[0] + c[1] * rows.row(i)[1]);
    }
    result.objective = {2, 1};
  }

  static Matrix Rows(const std::vector<double>& degrees) {
    Matrix rows{static_cast<int64_t>(degrees.size()), 2, {}};
    for (double d : degrees) {
      rows.values.push_back(static_cast<float>(std::cos(d * M_PI / 180)));
      rows.values.push_back(static_cast<float>(std::sin(d * M_PI / 180)));
    }
    return rows;
  }
};

ClusterResult MergeSmall(const Matrix& rows, ClusterResult result, int64_t min_size) {
  MergeSmallSubspaces(RowView::All(rows), min_size, &result);
  return result;
}

double Angle(const ClusterResult& result, int64_t subspace) {
  return std::atan2(result.centroids.row(subspace)[1], result.centroids.row(subspace)[0]) * 180 / M_PI;
}

TEST(Balancer, LeavesSubspacesOfTheSizeAskedForAlone) {
  Circle c({0, 2, 90, 92}, {0, 0, 1, 1}, {1, 91});
  const ClusterResult result = MergeSmall(c.rows, c.result, 2);
  EXPECT_EQ(result.assignment, c.result.assignment);
  EXPECT_EQ(result.centroids.values, c.result.centroids.values);
  EXPECT_EQ(result.similarity, c.result.similarity);
  EXPECT_EQ(result.merged, 0);
}

TEST(Balancer, MergesASmallOneIntoTheNearestRemaining) {
  Circle c({0, 2, 30, 90, 92}, {0, 0, 1, 2, 2}, {1, 30, 91});
  const ClusterResult result = MergeSmall(c.rows, c.result, 2);
  EXPECT_THAT(result.assignment, ElementsAre(0, 0, 0, 1, 1));
  EXPECT_EQ(result.merged, 1);
  EXPECT_EQ(result.centroids.rows, 2);
  EXPECT_EQ(result.centroids.values.size(), 4u);
  EXPECT_NEAR(Angle(result, 1), 91, 1e-4);
}

TEST(Balancer, TheReceiversCentroidIsTheMeanOfItsRowsAtUnitLength) {
  Circle c({0, 0, 30}, {0, 0, 1}, {0, 30});
  const ClusterResult result = MergeSmall(c.rows, c.result, 2);
  const double x = 2 + std::cos(M_PI / 6), y = std::sin(M_PI / 6);
  EXPECT_NEAR(Angle(result, 0), std::atan2(y, x) * 180 / M_PI, 1e-4);
  EXPECT_NEAR(std::hypot(result.centroids.row(0)[0], result.centroids.row(0)[1]), 1, 1e-6);
}

TEST(Balancer, SimilaritiesFollowTheNewCentroid) {
  Circle c({0, 0, 30}, {0, 0, 1}, {0, 30});
  const ClusterResult result = MergeSmall(c.rows, c.result, 2);
  const double angle = Angle(result, 0);
  EXPECT_THAT(result.similarity, ElementsAre(FloatNear(std::cos(angle * M_PI / 180), 1e-5),
                                             FloatNear(std::cos(angle * M_PI / 180), 1e-5),
                                             FloatNear(std::cos((30 - angle) * M_PI / 180), 1e-5)));
}

TEST(Balancer, DropsEmptyOnesEvenIfMinSizeIsZero) {
  Circle c({0, 2, 90}, {0, 0, 2}, {1, 45, 90});
  const ClusterResult result = MergeSmall(c.rows, c.result, 0);
  EXPECT_THAT(result.assignment, ElementsAre(0, 0, 1));
  EXPECT_EQ(result.merged, 1);
  EXPECT_NEAR(Angle(result, 0), 1, 1e-4);  // an empty one moves nobody
  EXPECT_EQ(result.similarity, c.result.similarity);
}

TEST(Balancer, SmallOnesThatMeetMayBecomeLargeEnough) {
  Circle c({0, 10, 80, 90, 180, 180, 180}, {0, 1, 2, 3, 4, 4, 4}, {0, 10, 80, 90, 180});
  const ClusterResult result = MergeSmall(c.rows, c.result, 2);
  EXPECT_THAT(result.assignment, ElementsAre(0, 0, 1, 1, 2, 2, 2));
  EXPECT_EQ(result.merged, 2);
}

TEST(Balancer, FollowsChainsOfMerges) {
  // 0 → 1 (the nearest), 1 (now two rows) → 2, since three are asked for.
  Circle c({0, 20, 45, 50, 55, 60}, {0, 1, 2, 2, 2, 2}, {0, 20, 52});
  const ClusterResult result = MergeSmall(c.rows, c.result, 3);
  EXPECT_THAT(result.assignment, ElementsAre(0, 0, 0, 0, 0, 0));
  EXPECT_EQ(result.merged, 2);
}

TEST(Balancer, OneRemainsWhateverIsAskedFor) {
  Circle c({0, 10, 90}, {0, 0, 1}, {5, 90});
  const ClusterResult result = MergeSmall(c.rows, c.result, 1000);
  EXPECT_THAT(result.assignment, ElementsAre(0, 0, 0));
  EXPECT_EQ(result.centroids.rows, 1);
}

TEST(Balancer, OppositeRowsKeepTheReceiversCentroid) {
  Matrix rows{4, 1, {1, 1, -1, -1}};
  ClusterResult before;
  before.centroids = Matrix{2, 1, {1, -1}};
  before.assignment = {0, 0, 1, 1};
  before.similarity = {1, 1, 1, 1};
  const ClusterResult result = MergeSmall(rows, before, 3);
  EXPECT_THAT(result.centroids.values, ElementsAre(-1));
  EXPECT_THAT(result.similarity, ElementsAre(-1, -1, 1, 1));
}

TEST(Balancer, KeepsTheObjectiveAndAddsToMerged) {
  Circle c({0, 2, 30}, {0, 0, 1}, {1, 30});
  c.result.merged = 4;
  const ClusterResult result = MergeSmall(c.rows, c.result, 2);
  EXPECT_EQ(result.merged, 5);
  EXPECT_THAT(result.objective, ElementsAre(2, 1));
}

TEST(Balancer, TiesGoToTheLowerNumber) {
  Circle c({-10, -10, 0, 10, 10}, {0, 0, 1, 2, 2}, {-10, 0, 10});
  c.result.centroids.row(0)[0] = c.result.centroids.row(2)[0];  // to the last bit
  const ClusterResult result = MergeSmall(c.rows, c.result, 2);
  EXPECT_THAT(result.assignment, ElementsAre(0, 0, 0, 1, 1));
}

// Angles around a circle, all in one subspace.
ClusterResult Everything(const Matrix& rows) {
  ClusterResult result;
  result.centroids = Matrix{1, 2, {1, 0}};
  result.assignment.assign(rows.rows, 0);
  for (int64_t i = 0; i < rows.rows; ++i) result.similarity.push_back(rows.row(i)[0]);
  return result;
}

std::vector<int64_t> Sizes(const ClusterResult& result) {
  std::vector<int64_t> sizes(result.centroids.rows, 0);
  for (int32_t s : result.assignment) ++sizes[s];
  return sizes;
}

TEST(Balancer, SplitsWhereTheGapIs) {
  const Matrix rows = Circle::Rows({0, 1, 2, 3, 60, 61, 62});
  ClusterResult result = Everything(rows);
  SplitLargeSubspaces(RowView::All(rows), 1, 4, &result);
  EXPECT_EQ(result.split, 1);
  EXPECT_EQ(result.centroids.rows, 2);
  for (int i = 1; i < 4; ++i) EXPECT_EQ(result.assignment[i], result.assignment[0]);
  for (int i = 5; i < 7; ++i) EXPECT_EQ(result.assignment[i], result.assignment[4]);
  EXPECT_NE(result.assignment[0], result.assignment[4]);
  EXPECT_NEAR(Angle(result, result.assignment[0]), 1.5, 1e-3);
  EXPECT_NEAR(Angle(result, result.assignment[4]), 61, 1e-3);
  EXPECT_NEAR(result.similarity[4], std::cos(M_PI / 180), 1e-5);
}

TEST(Balancer, SplitsIntoAsFewAsItTakesAndNoneIsTooSmall) {
  for (int64_t count : {11, 20, 21, 50, 99, 100}) {
    for (const auto& [min_size, max_size] : {std::pair{1, 2}, std::pair{5, 10}, std::pair{3, 7}}) {
      std::vector<double> degrees;
      // Most of them close together: two-means would cut off a few.
      for (int64_t i = 0; i < count; ++i) degrees.push_back(i % 10 == 0 ? 100.0 + i : 0.1 * i);
      const Matrix rows = Circle::Rows(degrees);
      ClusterResult result = Everything(rows);
      SplitLargeSubspaces(RowView::All(rows), min_size, max_size, &result);
      EXPECT_EQ(result.centroids.rows, (count + max_size - 1) / max_size);
      EXPECT_EQ(result.centroids.values.size(), static_cast<size_t>(result.centroids.rows * 2));
      for (int64_t size : Sizes(result)) {
        EXPECT_LE(size, max_size);
        EXPECT_GE(size, min_size);
      }
    }
  }
}

TEST(Balancer, SplitsRowsThatAreAllTheSame) {
  const Matrix rows = Circle::Rows(std::vector<double>(25, 30));
  ClusterResult result = Everything(rows);
  SplitLargeSubspaces(RowView::All(rows), 1, 10, &result);
  EXPECT_EQ(result.centroids.rows, 3);
  for (int64_t size : Sizes(result)) EXPECT_LE(size, 10);
}

TEST(Balancer, LeavesOthersAloneWhenItSplits) {
  Circle c({0, 2, 4, 90, 92}, {0, 0, 0, 1, 1}, {2, 91});
  SplitLargeSubspaces(RowView::All(c.rows), 1, 2, &c.result);
  EXPECT_EQ(c.result.centroids.rows, 3);
  EXPECT_EQ(c.result.assignment[3], 1);
  EXPECT_EQ(c.result.assignment[4], 1);
  EXPECT_NEAR(Angle(c.result, 1), 91, 1e-4);
}

TEST(Balancer, NoMaximumSplitsNothing) {
  Circle c({0, 2, 4}, {0, 0, 0}, {2});
  SplitLargeSubspaces(RowView::All(c.rows), 1, 0, &c.result);
  EXPECT_EQ(c.result.centroids.rows, 1);
}

TEST(Balancer, TheLeastAttachedGoToTheBestWithRoom) {
  Circle c({0, 10, 20, 40, 90, 180}, {0, 0, 0, 0, 1, 2}, {0, 90, 180});
  LimitSubspaces(RowView::All(c.rows), 3, 1, &c.result);
  EXPECT_THAT(c.result.assignment, ElementsAre(0, 0, 0, 1, 1, 2));
  EXPECT_EQ(c.result.moved, 1);
  EXPECT_NEAR(c.result.similarity[3], std::cos(50 * M_PI / 180), 1e-5);
}

TEST(Balancer, WhatFillsUpTakesNoMore) {
  Circle c({0, 10, 20, 30, 40, 90, 180, 185}, {0, 0, 0, 0, 0, 1, 2, 2}, {0, 90, 180});
  LimitSubspaces(RowView::All(c.rows), 3, 2, &c.result);
  EXPECT_THAT(Sizes(c.result), ElementsAre(3, 3, 2));
  Circle tight({0, 10, 20, 30, 40, 90}, {0, 0, 0, 0, 0, 1}, {0, 90, 180});
  LimitSubspaces(RowView::All(tight.rows), 2, 2, &tight.result);
  EXPECT_THAT(Sizes(tight.result), ElementsAre(2, 2, 2));
}

TEST(Balancer, ACapacityThatCannotHoldThemAllChangesNothing) {
  Circle c({0, 10, 20}, {0, 0, 0}, {0, 90});
  LimitSubspaces(RowView::All(c.rows), 1, 1, &c.result);
  EXPECT_THAT(c.result.assignment, ElementsAre(0, 0, 0));
}

TEST(Balancer, AllBoundsHoldTogether) {
  std::vector<double> degrees;
  std::vector<int32_t> assignment;
  for (int i = 0; i < 90; ++i) {
    degrees.push_back(i < 80 ? i * 0.5 : 100 + 20 * i);
    assignment.push_back(i < 80 ? 0 : 1 + i % 5);
  }
  Circle c(degrees, assignment, {20, 100, 140, 200, 260, 300});
  BalanceSubspaces(RowView::All(c.rows), {8, 20, 2.0}, 1, &c.result);
  for (int64_t size : Sizes(c.result)) {
    EXPECT_GE(size, 8);
    EXPECT_LE(size, 20);
  }
  EXPECT_GT(c.result.moved, 0);
}

}  // namespace
}  // namespace doppel
