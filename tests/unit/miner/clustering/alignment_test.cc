#include "miner/clustering/alignment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "common/base/philox.h"

namespace doppel {
namespace {

using testing::ElementsAre;

std::vector<int32_t> RandomPartition(int64_t n, int32_t subspaces, uint64_t seed) {
  const Philox philox(seed);
  std::vector<int32_t> partition(n);
  for (int64_t i = 0; i < n; ++i) partition[i] = static_cast<int32_t>(philox.Below(subspaces, i));
  return partition;
}

// The most rows that any one-to-one matching keeps, by trying them all. subspaces ≤ previous.
int64_t BestKept(const std::vector<int32_t>& previous, int32_t previous_subspaces,
                 const std::vector<int32_t>& assignment, int32_t subspaces) {
  const int32_t side = std::max(previous_subspaces, subspaces);
  std::vector<int64_t> overlap(side * side, 0);
  for (size_t i = 0; i < previous.size(); ++i) ++overlap[assignment[i] * side + previous[i]];
  std::vector<int32_t> order(side);
  std::iota(order.begin(), order.end(), 0);
  int64_t best = 0;
  do {
    int64_t kept = 0;
    for (int32_t s = 0; s < side; ++s) kept += overlap[s * side + order[s]];
    best = std::max(best, kept);
  } while (std::next_permutation(order.begin(), order.end()));
  return best;
}

void ExpectPermutation(const SubspaceAlignment& alignment) {
  std::vector<int32_t> sorted = alignment.number;
  std::sort(sorted.begin(), sorted.end());
  for (size_t s = 0; s < sorted.size(); ++s) EXPECT_EQ(sorted[s], static_cast<int32_t>(s));
}

TEST(AlignSubspaces, UndoesARenumbering) {
  const std::vector<int32_t> previous = RandomPartition(1000, 10, 1);
  std::vector<int32_t> assignment = previous;
  for (int32_t& s : assignment) s = (s * 3 + 4) % 10;
  const SubspaceAlignment alignment = AlignSubspaces(previous, 10, assignment, 10);
  for (size_t i = 0; i < previous.size(); ++i) EXPECT_EQ(alignment.number[assignment[i]], previous[i]);
  EXPECT_EQ(alignment.churn(), 0);
  EXPECT_EQ(alignment.compared, 1000);
}

TEST(AlignSubspaces, KeepsAsManyRowsAsPossible) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const auto before = static_cast<int32_t>(1 + seed % 6), now = static_cast<int32_t>(1 + seed / 6 % 6);
    const std::vector<int32_t> previous = RandomPartition(40, before, seed);
    const std::vector<int32_t> assignment = RandomPartition(40, now, seed + 1000);
    const SubspaceAlignment alignment = AlignSubspaces(previous, before, assignment, now);
    EXPECT_EQ(alignment.kept, BestKept(previous, before, assignment, now)) << before << " to " << now;
    ExpectPermutation(alignment);
  }
}

TEST(AlignSubspaces, GreedyWouldKeepLess) {
  // 0 overlaps with both previous ones (5 and 4), 1 only with previous 0 (4): 0 must leave 0 to 1.
  const std::vector<int32_t> previous = {0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0};
  const std::vector<int32_t> assignment = {0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1};
  const SubspaceAlignment alignment = AlignSubspaces(previous, 2, assignment, 2);
  EXPECT_THAT(alignment.number, ElementsAre(1, 0));
  EXPECT_EQ(alignment.kept, 8);
}

TEST(AlignSubspaces, MoreSubspacesThanBefore) {
  const std::vector<int32_t> previous = {0, 0, 0, 1, 1, 1};
  const std::vector<int32_t> assignment = {2, 2, 0, 1, 1, 3};
  const SubspaceAlignment alignment = AlignSubspaces(previous, 2, assignment, 4);
  EXPECT_THAT(alignment.number, ElementsAre(2, 1, 0, 3));
  EXPECT_THAT(alignment.continues, ElementsAre(-1, 1, 0, -1));
  EXPECT_DOUBLE_EQ(alignment.churn(), 1 / 3.0);
}

TEST(AlignSubspaces, FewerSubspacesThanBefore) {
  // Previous 3 goes on, but there is no number 3 any more.
  const std::vector<int32_t> previous = {0, 1, 3, 3, 3, 2};
  const std::vector<int32_t> assignment = {1, 1, 0, 0, 0, 1};
  const SubspaceAlignment alignment = AlignSubspaces(previous, 4, assignment, 2);
  EXPECT_EQ(alignment.continues[0], 3);
  ExpectPermutation(alignment);
  EXPECT_EQ(alignment.kept, 4);
}

TEST(AlignSubspaces, RowsWithoutASubspaceDoNotCount) {
  const SubspaceAlignment alignment = AlignSubspaces({0, -1, 1, -1}, 2, {1, 1, 0, -1}, 2);
  EXPECT_EQ(alignment.compared, 2);
  EXPECT_EQ(alignment.churn(), 0);
}

TEST(AlignSubspaces, NothingInCommon) {
  const SubspaceAlignment alignment = AlignSubspaces({-1, -1}, 3, {0, 1}, 2);
  EXPECT_THAT(alignment.number, ElementsAre(0, 1));
  EXPECT_THAT(alignment.continues, ElementsAre(-1, -1));
  EXPECT_EQ(alignment.churn(), 0);
  EXPECT_TRUE(AlignSubspaces({}, 0, {}, 0).number.empty());
}

TEST(AlignSubspaces, TenThousandSubspacesWithAFifthOfTheRowsMoved) {
  const int32_t subspaces = 10000;
  const int64_t n = 200000;
  const std::vector<int32_t> previous = RandomPartition(n, subspaces, 5);
  const std::vector<int32_t> elsewhere = RandomPartition(n, subspaces, 6);
  std::vector<int32_t> assignment(n);
  for (int64_t i = 0; i < n; ++i) {
    assignment[i] = i % 5 == 0 ? elsewhere[i] : (previous[i] + 77) % subspaces;
  }
  const SubspaceAlignment alignment = AlignSubspaces(previous, subspaces, assignment, subspaces);
  EXPECT_NEAR(alignment.churn(), 0.2, 0.001);
  EXPECT_EQ(alignment.number[77], 0);
}

TEST(Renumber, CentroidsAndRowsFollow) {
  ClusterResult result;
  result.centroids = Matrix{3, 1, {10, 11, 12}};
  result.assignment = {0, 1, 2, 1};
  SubspaceAlignment alignment;
  alignment.number = {2, 0, 1};
  Renumber(alignment, result);
  EXPECT_THAT(result.centroids.values, ElementsAre(11, 12, 10));
  EXPECT_THAT(result.assignment, ElementsAre(2, 0, 1, 0));
}

TEST(NormalizedMutualInformation, OneForTheSamePartitionUnderOtherNumbers) {
  EXPECT_NEAR(NormalizedMutualInformation({0, 0, 1, 2}, {5, 5, 0, 1}), 1, 1e-12);
  EXPECT_EQ(NormalizedMutualInformation({3, 3}, {0, 0}), 1);
}

TEST(NormalizedMutualInformation, NoughtForIndependentOnes) {
  EXPECT_NEAR(NormalizedMutualInformation({0, 0, 1, 1}, {0, 1, 0, 1}), 0, 1e-12);
  EXPECT_EQ(NormalizedMutualInformation({}, {}), 0);
  EXPECT_EQ(NormalizedMutualInformation({0, 0}, {-1, -1}), 0);
}

TEST(NormalizedMutualInformation, AgreesWithScikitLearn) {
  // sklearn.metrics.normalized_mutual_info_score([0,0,0,1,1,1,2,2], [0,0,1,1,1,2,2,2])
  EXPECT_NEAR(NormalizedMutualInformation({0, 0, 0, 1, 1, 1, 2, 2}, {0, 0, 1, 1, 1, 2, 2, 2}), 0.558873,
              1e-5);
}

TEST(NormalizedMutualInformation, IgnoresRowsWithoutASubspace) {
  EXPECT_NEAR(NormalizedMutualInformation({0, 0, 1, -1}, {1, 1, 0, 0}), 1, 1e-12);
}

}  // namespace
}  // namespace doppel
