#include "miner/generation/generation_statistics.h"

#include <gtest/gtest.h>

namespace doppel {
namespace {

TEST(GenerationStatisticsTest, DescribesSizesRadiiAndNeighbours) {
  // Subspaces 0 and 1 lie 0.6 apart (cosine), 2 is orthogonal to 0 and 0.8 from 1.
  const Matrix centroids{3, 2, {1, 0, 0.6F, 0.8F, 0, 1}};
  v1::GenerationInfo info;
  DescribeSubspaces(centroids, {0, 0, 0, 1, 2, 2}, {1.0F, 0.9F, 0.5F, 0.75F, 1.0F, 1.0F}, 2, info);
  EXPECT_EQ(info.identities(), 6U);
  EXPECT_EQ(info.subspaces(), 3U);
  EXPECT_EQ(info.dimension(), 2U);
  EXPECT_EQ(info.smallest_subspace(), 1U);
  EXPECT_EQ(info.largest_subspace(), 3U);
  EXPECT_DOUBLE_EQ(info.imbalance(), 1.5);
  ASSERT_EQ(info.subspace_size(), 3);
  EXPECT_EQ(info.subspace(0).identities(), 3U);
  EXPECT_NEAR(info.subspace(0).mean_radius(), 0.2, 1e-6);
  EXPECT_NEAR(info.subspace(0).max_radius(), 0.5, 1e-6);
  EXPECT_NEAR(info.subspace(1).mean_radius(), 0.25, 1e-6);
  EXPECT_EQ(info.subspace(0).nearest_subspace(), 1U);
  EXPECT_NEAR(info.subspace(0).nearest_cosine(), 0.6, 1e-6);
  EXPECT_EQ(info.subspace(1).nearest_subspace(), 2U);
  EXPECT_NEAR(info.subspace(1).nearest_cosine(), 0.8, 1e-6);
  EXPECT_EQ(info.subspace(2).nearest_subspace(), 1U);
}

TEST(GenerationStatisticsTest, TheOnlySubspaceIsItsOwnNeighbour) {
  v1::GenerationInfo info;
  DescribeSubspaces(Matrix{1, 2, {1, 0}}, {0, 0}, {1.0F, 1.0F}, 1, info);
  EXPECT_EQ(info.subspace(0).nearest_subspace(), 0U);
  EXPECT_DOUBLE_EQ(info.imbalance(), 1);
}

TEST(GenerationStatisticsTest, RoundingBeyondOneIsNoNegativeRadius) {
  v1::GenerationInfo info;
  DescribeSubspaces(Matrix{1, 1, {1}}, {0}, {1.0001F}, 1, info);
  EXPECT_EQ(info.subspace(0).mean_radius(), 0);
}

TEST(GenerationStatisticsTest, ThreadsDoNotChangeTheResult) {
  Matrix centroids{300, 9, std::vector<float>(2700)};
  for (size_t i = 0; i < centroids.values.size(); ++i)
    centroids.values[i] = static_cast<float>(i * 7919 % 101) - 50;
  NormalizeRows(centroids);
  std::vector<int32_t> assignment(300);
  for (int i = 0; i < 300; ++i) assignment[i] = i;
  const std::vector<float> similarity(300, 0.5F);
  v1::GenerationInfo one;
  v1::GenerationInfo three;
  DescribeSubspaces(centroids, assignment, similarity, 1, one);
  DescribeSubspaces(centroids, assignment, similarity, 3, three);
  EXPECT_EQ(one.SerializeAsString(), three.SerializeAsString());
}

}  // namespace
}  // namespace doppel
