#include "miner/generation/lookup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/clock.h"
#include "miner/generation/event_log.h"
#include "miner/generation/generation_diff.h"
#include "tests/support/fake_catalog.h"
#include "tests/support/fake_generation.h"

namespace doppel {
namespace {

using testing::HasSubstr;

class LookupTest : public testing::Test {
 protected:
  std::shared_ptr<const Catalog> catalog_ = MakeFakeCatalog(60, 2, 3, 1, {{"test", 10}, {"train", 50}});
  std::shared_ptr<const FakeGeneration> generation_ = MakeFakeGeneration(*catalog_, "train", 4, 3, 16);
};

TEST_F(LookupTest, FindsAnIdentityByNameAndByNumber) {
  EXPECT_EQ(*ResolveIdentity(*catalog_, catalog_->IdentityName(17)), 17U);
  EXPECT_EQ(*ResolveIdentity(*catalog_, "17"), 17U);
  EXPECT_EQ(*ResolveIdentity(*catalog_, "#17"), 17U);
}

TEST_F(LookupTest, SaysWhatItDoesNotFind) {
  EXPECT_EQ(ResolveIdentity(*catalog_, "").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ResolveIdentity(*catalog_, "60").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ResolveIdentity(*catalog_, "nobody").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ResolveIdentity(*catalog_, "未").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ResolveIdentity(*catalog_, "\xff").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(LookupTest, LookalikesWithoutNeighboursAreComparedWithEverybody) {
  v1::FindLookalikesRequest request;
  request.set_identity("#30");
  request.set_count(49);
  const auto found = FindLookalikes(*generation_, *catalog_, request);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_FALSE(found->stored());
  EXPECT_EQ(found->identity().identity(), 30U);
  ASSERT_EQ(found->lookalikes_size(), 49);
  double last = 2;
  for (const v1::SimilarIdentity& other : found->lookalikes()) {
    EXPECT_LE(other.similarity(), last);
    last = other.similarity();
    double cosine = 0;
    const auto a = generation_->Representation(30), b = generation_->Representation(other.identity());
    for (size_t d = 0; d < a.size(); ++d) cosine += double{a[d]} * double{b[d]};
    EXPECT_NEAR(other.similarity(), cosine, 1e-5);
    EXPECT_NE(other.identity(), 30U);
    EXPECT_EQ(other.subspace(), generation_->SubspaceOf(other.identity()));
    EXPECT_EQ(other.name(), std::string(catalog_->IdentityName(other.identity())));
    EXPECT_EQ(other.picture(), "");
  }
}

TEST_F(LookupTest, PicturesAreTheFirstSamples) {
  v1::FindLookalikesRequest request;
  request.set_identity("#30");
  request.set_count(2);
  request.set_pictures(true);
  const auto found = FindLookalikes(*generation_, *catalog_, request);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->identity().picture(), catalog_->Read(catalog_->Samples(30).first)->data);
}

TEST_F(LookupTest, AnIdentityOutsideTheGenerationIsNotFound) {
  v1::FindLookalikesRequest request;
  request.set_identity("#3");
  const auto found = FindLookalikes(*generation_, *catalog_, request);
  EXPECT_EQ(found.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(found.status().message()), HasSubstr("not covered"));
}

TEST_F(LookupTest, ASubspaceListsItsMembersNearestFirst) {
  v1::GetSubspaceRequest request;
  request.set_subspace(2);
  request.set_limit(5);
  const auto subspace = DescribeSubspace(*generation_, *catalog_, request);
  ASSERT_TRUE(subspace.ok()) << subspace.status();
  EXPECT_EQ(subspace->info().identities(), generation_->Members(2).size());
  ASSERT_EQ(subspace->members_size(), 5);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(subspace->members(i).subspace(), 2U);
    if (i > 0) EXPECT_LE(subspace->members(i).similarity(), subspace->members(i - 1).similarity());
  }
  EXPECT_EQ(subspace->nearest_size(), 3);
  request.set_subspace(4);
  EXPECT_EQ(DescribeSubspace(*generation_, *catalog_, request).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(LookupTest, AGenerationDoesNotDifferFromItself) {
  const auto diff = DiffGenerations(*generation_, *generation_, *catalog_, 10);
  EXPECT_EQ(diff.common(), 50U);
  EXPECT_EQ(diff.moved(), 0U);
  EXPECT_EQ(diff.churn(), 0);
  EXPECT_EQ(diff.matched_churn(), 0);
  EXPECT_NEAR(diff.nmi(), 1, 1e-9);
  EXPECT_TRUE(diff.flows().empty());
  for (const v1::SubspaceDiff& subspace : diff.subspaces()) {
    EXPECT_EQ(subspace.stayed(), subspace.from());
    EXPECT_NEAR(subspace.centroid_cosine(), 1, 1e-6);
  }
}

TEST_F(LookupTest, DiffCountsWhatMoved) {
  // Identities 10 … 15 against 12 … 17 with two subspaces swapped and one identity elsewhere.
  const FakeGeneration before(1, 10, {0, 0, 0, 1, 1, 1}, 2, 4);
  const FakeGeneration after(2, 12, {1, 0, 0, 1, 1, 2}, 3, 4);
  const auto diff = DiffGenerations(before, after, *catalog_, 2);
  EXPECT_EQ(diff.common(), 4U);
  EXPECT_EQ(diff.only_from(), 2U);
  EXPECT_EQ(diff.only_to(), 2U);
  EXPECT_EQ(diff.moved(), 3U);  // 12: 0 → 1; 13, 14: 1 → 0
  EXPECT_DOUBLE_EQ(diff.churn(), 0.75);
  EXPECT_DOUBLE_EQ(diff.matched_churn(), 0.25);  // 15
  ASSERT_EQ(diff.flows_size(), 2);
  EXPECT_EQ(diff.flows(0).from(), 1U);
  EXPECT_EQ(diff.flows(0).to(), 0U);
  EXPECT_EQ(diff.flows(0).identities(), 2U);
  ASSERT_EQ(diff.identities_size(), 2);
  EXPECT_EQ(diff.identities(0).identity(), 12U);
  EXPECT_EQ(diff.identities(0).name(), std::string(catalog_->IdentityName(12)));
  ASSERT_EQ(diff.subspaces_size(), 3);
  EXPECT_EQ(diff.subspaces(0).arrived(), 2U);
  EXPECT_EQ(diff.subspaces(0).departed(), 1U);
  EXPECT_EQ(diff.subspaces(1).stayed(), 1U);
  EXPECT_EQ(diff.subspaces(2).from(), 0U);
}

TEST_F(LookupTest, DisjointGenerationsHaveNothingInCommon) {
  const FakeGeneration before(1, 0, {0, 1}, 2, 4);
  const FakeGeneration after(2, 30, {1, 0}, 2, 4);
  const auto diff = DiffGenerations(before, after, *catalog_, 5);
  EXPECT_EQ(diff.common(), 0U);
  EXPECT_EQ(diff.churn(), 0);
  EXPECT_EQ(diff.only_from(), 2U);
}

TEST(EventLogTest, NumbersEventsAndForgetsTheOldest) {
  ManualClock clock(absl::FromUnixSeconds(1700000000));
  EventLog log(&clock);
  EXPECT_EQ(log.last(), 0U);
  EXPECT_TRUE(log.After(0).empty());
  for (uint64_t i = 1; i <= 1500; ++i) {
    v1::WatchResponse event;
    event.set_retired(i);
    log.Add(event);
  }
  EXPECT_EQ(log.last(), 1500U);
  const auto all = log.After(0);
  ASSERT_FALSE(all.empty());
  EXPECT_EQ(all.size(), 1024U);
  EXPECT_EQ(all.back().sequence(), 1500U);
  EXPECT_EQ(all.back().retired(), 1500U);
  EXPECT_EQ(all.back().time(), "2023-11-14T22:13:20.000Z");
  EXPECT_EQ(log.After(1498).size(), 2U);
  EXPECT_TRUE(log.After(1500).empty());
  EXPECT_TRUE(log.After(9999).empty());
}

}  // namespace
}  // namespace doppel
