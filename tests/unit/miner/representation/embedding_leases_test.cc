#include "miner/representation/embedding_leases.h"

#include <gtest/gtest.h>

#include <vector>

namespace doppel {
namespace {

constexpr EmbeddingLeases::Options kOptions = {10, absl::Seconds(60)};

class EmbeddingLeasesTest : public testing::Test {
 protected:
  ManualClock clock_{absl::FromUnixSeconds(1000)};
};

TEST_F(EmbeddingLeasesTest, CoversEverythingOnceInOrder) {
  EmbeddingLeases leases({100, 25}, {}, kOptions, clock_);
  std::vector<IdentityRange> ranges;
  while (const auto lease = leases.Acquire("a")) ranges.push_back(lease->range);
  EXPECT_EQ(ranges, (std::vector<IdentityRange>{{100, 10}, {110, 10}, {120, 5}}));
  EXPECT_EQ(leases.open_leases(), 3U);
}

TEST_F(EmbeddingLeasesTest, LeaseNumbersAreDistinctAndNotThoseOfAnEarlierRun) {
  EmbeddingLeases before({0, 20}, {}, kOptions, clock_);
  const uint64_t old_id = before.Acquire("a")->id;
  clock_.Advance(absl::Seconds(1));
  EmbeddingLeases leases({0, 20}, {}, kOptions, clock_);
  const uint64_t first = leases.Acquire("a")->id;
  const uint64_t second = leases.Acquire("a")->id;
  EXPECT_NE(first, second);
  EXPECT_EQ(leases.Renew(old_id).code(), absl::StatusCode::kNotFound);
}

TEST_F(EmbeddingLeasesTest, SkipsWhatAnEarlierRunCommitted) {
  IdentityRanges committed;
  committed.Add({0, 15});
  committed.Add({20, 5});
  EmbeddingLeases leases({0, 30}, committed, kOptions, clock_);
  EXPECT_EQ(leases.committed(), 20U);
  EXPECT_EQ(leases.Acquire("a")->range, (IdentityRange{15, 5}));
  EXPECT_EQ(leases.Acquire("a")->range, (IdentityRange{25, 5}));
  EXPECT_FALSE(leases.Acquire("a"));
}

TEST_F(EmbeddingLeasesTest, IsDoneWhenAllIsCommitted) {
  EmbeddingLeases leases({0, 20}, {}, kOptions, clock_);
  EXPECT_FALSE(leases.done());
  EXPECT_EQ(leases.Commit({0, 10}), 10U);
  EXPECT_FALSE(leases.done());
  EXPECT_EQ(leases.Commit({10, 10}), 10U);
  EXPECT_TRUE(leases.done());
  EXPECT_FALSE(leases.Acquire("a"));
}

TEST_F(EmbeddingLeasesTest, ExpiredRangesAreLeasedAgainBeforeFreshOnes) {
  EmbeddingLeases leases({0, 40}, {}, kOptions, clock_);
  const auto lost = leases.Acquire("a");
  clock_.Advance(absl::Seconds(61));
  const auto again = leases.Acquire("b");
  EXPECT_EQ(again->range, lost->range);
  EXPECT_NE(again->id, lost->id);
  EXPECT_EQ(leases.Acquire("b")->range, (IdentityRange{10, 10}));
}

TEST_F(EmbeddingLeasesTest, LeasesExpireExactlyAtTheirEnd) {
  EmbeddingLeases leases({0, 10}, {}, kOptions, clock_);
  const auto lease = leases.Acquire("a");
  clock_.Advance(absl::Seconds(59));
  EXPECT_FALSE(leases.Acquire("b"));
  clock_.Advance(absl::Seconds(1));
  EXPECT_TRUE(leases.Acquire("b"));
  EXPECT_EQ(leases.Renew(lease->id).code(), absl::StatusCode::kNotFound);
}

TEST_F(EmbeddingLeasesTest, RenewingKeepsALease) {
  EmbeddingLeases leases({0, 10}, {}, kOptions, clock_);
  const auto lease = leases.Acquire("a");
  for (int i = 0; i < 5; ++i) {
    clock_.Advance(absl::Seconds(50));
    ASSERT_TRUE(leases.Renew(lease->id).ok());
    ASSERT_FALSE(leases.Acquire("b"));
  }
}

TEST_F(EmbeddingLeasesTest, CommittedLeasesCannotBeRenewed) {
  EmbeddingLeases leases({0, 20}, {}, kOptions, clock_);
  const auto lease = leases.Acquire("a");
  leases.Commit(lease->range);
  EXPECT_EQ(leases.Renew(lease->id).code(), absl::StatusCode::kNotFound);
}

TEST_F(EmbeddingLeasesTest, CommittingTwiceCountsOnce) {
  EmbeddingLeases leases({0, 20}, {}, kOptions, clock_);
  EXPECT_EQ(leases.Commit({0, 10}), 10U);
  EXPECT_EQ(leases.Commit({0, 10}), 0U);
  EXPECT_EQ(leases.committed(), 10U);
}

TEST_F(EmbeddingLeasesTest, AStragglersCommitCountsOnceAndEndsTheSecondLease) {
  EmbeddingLeases leases({0, 10}, {}, kOptions, clock_);
  const auto straggler = leases.Acquire("a");
  clock_.Advance(absl::Seconds(61));
  const auto second = leases.Acquire("b");
  EXPECT_EQ(leases.Commit(straggler->range), 10U);
  EXPECT_TRUE(leases.done());
  EXPECT_EQ(leases.Renew(second->id).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(leases.Commit(second->range), 0U);
}

TEST_F(EmbeddingLeasesTest, AStragglersCommitBeforeTheNextLeaseIsNotLeasedAgain) {
  EmbeddingLeases leases({0, 20}, {}, kOptions, clock_);
  const auto straggler = leases.Acquire("a");
  clock_.Advance(absl::Seconds(61));
  EXPECT_EQ(leases.open_leases(), 0U);  // noticed: the range is pending again
  EXPECT_EQ(leases.Commit(straggler->range), 10U);
  EXPECT_EQ(leases.Acquire("b")->range, (IdentityRange{10, 10}));
  EXPECT_FALSE(leases.Acquire("b"));
}

TEST_F(EmbeddingLeasesTest, RangesOfAnotherLeaseSizeLeaveTheRestToLease) {
  EmbeddingLeases leases({0, 20}, {}, kOptions, clock_);
  const auto lease = leases.Acquire("a");
  EXPECT_EQ(leases.Commit({5, 10}), 10U);  // of a run with other borders
  EXPECT_TRUE(leases.Renew(lease->id).ok());
  EXPECT_EQ(leases.Acquire("b")->range, (IdentityRange{15, 5}));
  clock_.Advance(absl::Seconds(61));
  EXPECT_EQ(leases.Acquire("c")->range, (IdentityRange{15, 5}));
  EXPECT_EQ(leases.Acquire("c")->range, (IdentityRange{0, 5}));
}

TEST_F(EmbeddingLeasesTest, ALeaseSizeOfZeroStillMakesProgress) {
  EmbeddingLeases leases({0, 2}, {}, {0, absl::Seconds(1)}, clock_);
  EXPECT_EQ(leases.Acquire("a")->range, (IdentityRange{0, 1}));
}

}  // namespace
}  // namespace doppel
