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

}  // namespace
}  // namespace doppel
