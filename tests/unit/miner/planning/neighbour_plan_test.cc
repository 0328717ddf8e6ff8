#include "miner/planning/neighbour_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "tests/unit/miner/planning/plan_test_worlds.h"

namespace doppel {
namespace {

using testing::HasSubstr;

std::vector<PlanWorld> NeighbourWorlds() {
  std::vector<PlanWorld> worlds;
  // `groups` of `size`, then turns alone.
  auto add = [&](const std::string& name, std::shared_ptr<const Catalog> catalog,
                 std::shared_ptr<const Generation> generation, v1::PlanSpec spec, uint64_t groups,
                 uint64_t size) {
    auto by_turn = [groups, size](uint64_t i) { return i >= groups * size || i % size == 0; };
    worlds.push_back({name, std::move(catalog), generation, std::move(spec), 300 + worlds.size(), false,
                      CoveredBy(generation), by_turn});
  };
  auto catalog = MakeFakeCatalog(203, 1, 9, 1);
  auto plain = NeighbourGeneration(*catalog, "", 4, 15);
  add("Nearest", catalog, plain, NamedSpec("nearest_identities", 8, 4), 1, 8);
  add("NearestUsesTheWholeList", catalog, plain, NamedSpec("nearest_identities", 16, 2), 1, 16);
  add("Doppelganger", catalog, plain, NamedSpec("doppelganger", 10, 3), 5, 2);
  add("OfflineTriplets", catalog, plain, NamedSpec("offline_triplets", 12, 2), 6, 2);
  add("LookAlikes", catalog, plain, NamedSpec("look_alikes", 16, 4), 2, 4);
  add("LookAlikesOfTwo", catalog, plain, NamedSpec("look_alikes", 2, 4), 1, 2);
  add("LookAlikesOfFive", catalog, plain, NamedSpec("look_alikes", 5, 2), 1, 4);
  v1::PlanSpec shaped = NamedSpec("look_alikes", 20, 2);
  shaped.set_groups(6);
  shaped.set_group_size(3);
  shaped.set_pool(2);
  shaped.set_skip(1);
  add("Shaped", catalog, plain, shaped, 6, 3);
  v1::PlanSpec banded = NamedSpec("offline_triplets", 8, 2);
  banded.set_similarity_max(0.9);
  banded.set_similarity_min(0.6);
  banded.set_skip(0);
  add("Banded", catalog, plain, banded, 4, 2);
  auto guarded = NeighbourGeneration(*catalog, "", 4, 15);
  guarded->SetGuardList(GuardSome(*catalog, 203, {1, 2, 9}));
  add("GuardedNearest", catalog, guarded, NamedSpec("nearest_identities", 8, 4), 1, 8);
  add("GuardedDoppelganger", catalog, guarded, NamedSpec("doppelganger", 10, 3), 5, 2);
  add("GuardedTriplets", catalog, guarded, NamedSpec("offline_triplets", 12, 2), 6, 2);
  add("GuardedLookAlikes", catalog, guarded, NamedSpec("look_alikes", 32, 4), 4, 4);
  auto split = MakeFakeCatalog(170, 2, 6, 3, {{"test", 50}, {"train", 120}});
  add("Train", split, NeighbourGeneration(*split, "train", 3, 12), NamedSpec("look_alikes", 12, 4), 1, 4);
  return worlds;
}

INSTANTIATE_TEST_SUITE_P(Neighbours, PlanConformance, testing::ValuesIn(NeighbourWorlds()), PlanWorldName);

class NeighbourPlanTest : public testing::Test {
 protected:
  std::shared_ptr<const Plan> Make(const v1::PlanSpec& spec, uint64_t seed = 1) {
    return MakePlan(spec, seed, catalog_, generation_).value();
  }
  uint64_t RankOf(uint64_t leader, uint64_t neighbour) const {
    const auto list = generation_->Neighbours(leader);
    return static_cast<uint64_t>(std::find(list.begin(), list.end(), neighbour) - list.begin());
  }

  std::shared_ptr<const FakeCatalog> catalog_ = MakeFakeCatalog(5000, 2, 8, 1);
  std::shared_ptr<FakeGeneration> generation_ = NeighbourGeneration(*catalog_, "", 4, 32);
};

TEST_F(NeighbourPlanTest, NearestIdentitiesAreTheFirstOfTheList) {
  const auto plan = Make(NamedSpec("nearest_identities", 9, 2));
  EXPECT_EQ(plan->coverage().batches_per_epoch, 5000u);  // one for each identity
  for (uint64_t cursor = 0; cursor < 50; ++cursor) {
    const PlannedBatch batch = plan->At(cursor);
    for (uint64_t j = 1; j < 9; ++j) EXPECT_EQ(RankOf(batch.identities[0], batch.identities[j]), j - 1);
  }
}

TEST_F(NeighbourPlanTest, DoppelgangersAreTheMostSimilar) {
  const auto plan = Make(NamedSpec("doppelganger", 20, 2));
  uint64_t first = 0;
  for (uint64_t cursor = 0; cursor < 100; ++cursor) {
    const PlannedBatch batch = plan->At(cursor);
    for (uint64_t i = 0; i < 20; i += 2) first += RankOf(batch.identities[i], batch.identities[i + 1]) == 0;
  }
  EXPECT_GT(first, 980u);  // unless the batch has it already
}

TEST_F(NeighbourPlanTest, OfflineTripletsSkipTheVeryHardestByDefault) {
  const auto plan = Make(NamedSpec("offline_triplets", 20, 2));
  std::set<uint64_t> ranks;
  for (uint64_t cursor = 0; cursor < 100; ++cursor) {
    const PlannedBatch batch = plan->At(cursor);
    for (uint64_t i = 0; i < 20; i += 2) ranks.insert(RankOf(batch.identities[i], batch.identities[i + 1]));
  }
  EXPECT_EQ(*ranks.begin(), 4u);  // an eighth of 32
  EXPECT_EQ(*ranks.rbegin(), 31u);
  EXPECT_EQ(ranks.size(), 28u);
}

TEST_F(NeighbourPlanTest, TheBandHoldsByCosine) {
  v1::PlanSpec spec = NamedSpec("offline_triplets", 20, 2);
  spec.set_similarity_max(0.9);
  spec.set_similarity_min(0.7);
  const auto plan = Make(spec);
  for (uint64_t cursor = 0; cursor < 100; ++cursor) {
    const PlannedBatch batch = plan->At(cursor);
    for (uint64_t i = 0; i < 20; i += 2) {
      const uint64_t rank = RankOf(batch.identities[i], batch.identities[i + 1]);
      ASSERT_LT(rank, 32u);
      const float cosine = generation_->NeighbourSimilarities(batch.identities[i])[rank];
      EXPECT_LE(cosine, 0.9F);
      EXPECT_GE(cosine, 0.7F);
    }
  }
}

TEST_F(NeighbourPlanTest, AnEmptyBandIsFilledAtRandomNeverHarder) {
  v1::PlanSpec spec = NamedSpec("offline_triplets", 20, 2);
  spec.set_similarity_max(0.3);  // all are more similar
  const auto plan = Make(spec);
  uint64_t listed = 0;
  for (uint64_t cursor = 0; cursor < 50; ++cursor) {
    const PlannedBatch batch = plan->At(cursor);
    EXPECT_EQ(std::set<uint64_t>(batch.identities.begin(), batch.identities.end()).size(), 20u);
    for (uint64_t i = 0; i < 20; i += 2) listed += RankOf(batch.identities[i], batch.identities[i + 1]) < 32;
  }
  EXPECT_LT(listed, 15u);  // by chance
}

TEST_F(NeighbourPlanTest, LookAlikesAreHalfGroupsOfFourFromTheTwelveNearest) {
  const auto plan = Make(NamedSpec("look_alikes", 48, 4));
  EXPECT_EQ(plan->coverage().batches_per_epoch, 5000u / 30);  // 6 leaders and 24 at random
  std::set<uint64_t> ranks;
  for (uint64_t cursor = 0; cursor < 60; ++cursor) {
    const PlannedBatch batch = plan->At(cursor);
    EXPECT_DOUBLE_EQ(batch.hard_share, 0.5);
    for (uint64_t i = 0; i < 24; ++i) {
      if (i % 4 != 0) ranks.insert(RankOf(batch.identities[i / 4 * 4], batch.identities[i]));
    }
  }
  std::set<uint64_t> twelve;
  for (uint64_t rank = 0; rank < 12; ++rank) twelve.insert(rank);
  EXPECT_TRUE(std::includes(ranks.begin(), ranks.end(), twelve.begin(), twelve.end()));
  EXPECT_LT(*ranks.rbegin(), 14u);  // the next of the list where one is in the batch already
}

TEST_F(NeighbourPlanTest, LookAlikesScaleWithP) {
  for (const auto& [p, groups] : std::map<uint32_t, uint32_t>{{4, 1}, {8, 1}, {16, 2}, {32, 4}, {96, 12}}) {
    EXPECT_EQ(Make(NamedSpec("look_alikes", p, 2))->coverage().batches_per_epoch, 5000u / (p - 3 * groups));
  }
}

TEST_F(NeighbourPlanTest, NeighboursShowOtherImagesFromBatchToBatch) {
  // 0 is everybody's doppelganger.
  generation_->SetNeighbours(1, std::vector<uint32_t>(5000, 0), {0.9F});
  catalog_ = std::make_shared<FakeCatalog>(std::vector<uint32_t>(5000, 8));
  generation_->mutable_info().set_catalog_fingerprint(catalog_->fingerprint());
  const auto plan = Make(NamedSpec("doppelganger", 2, 2));
  std::set<uint64_t> images;
  for (uint64_t cursor = 0; cursor < 40; ++cursor) {
    const PlannedBatch batch = plan->At(cursor);
    if (batch.identities[1] == 0) images.insert(batch.samples.begin() + 2, batch.samples.end());
  }
  EXPECT_EQ(images.size(), 8u);
}

TEST_F(NeighbourPlanTest, AGuardedNeighbourIsPassedOver) {
  std::vector<GuardList::Pair> pairs;
  for (uint32_t i = 0; i < 5000; ++i) {
    const uint32_t nearest = generation_->Neighbours(i)[0];
    pairs.push_back({i, nearest});
  }
  generation_->SetGuardList(GuardList::Make(pairs, {}).value());
  const auto plan = Make(NamedSpec("nearest_identities", 6, 2));
  for (uint64_t cursor = 0; cursor < 50; ++cursor) {
    const PlannedBatch batch = plan->At(cursor);
    for (uint64_t j = 1; j < 6; ++j) EXPECT_GT(RankOf(batch.identities[0], batch.identities[j]), 0u);
  }
}

TEST_F(NeighbourPlanTest, HardnessMovesTheGroupsAndTurnsGoOn) {
  v1::PlanSpec spec = NamedSpec("look_alikes", 48, 2);
  const std::vector<std::pair<uint64_t, double>> decisions = {{0, 0}, {17, 0.25}, {60, 0.52}, {101, 1}};
  for (const auto& [cursor, share] : decisions) {
    v1::HardnessDecision& decision = *spec.add_hardness();
    decision.set_from_cursor(cursor);
    decision.set_hard_share(share);
  }
  const auto plan = Make(spec);
  const std::map<uint64_t, uint64_t> groups = {{0, 0},  {16, 0},  {17, 3},  {59, 3},
                                               {60, 6}, {100, 6}, {101, 12}};
  for (const auto& [cursor, expected] : groups) {
    EXPECT_DOUBLE_EQ(plan->At(cursor).hard_share, static_cast<double>(expected) / 12) << cursor;
  }
  // Turns: groups' leaders and the rest. Nobody twice in an epoch, whatever the decisions.
  std::map<uint64_t, std::set<uint64_t>> epochs;
  std::map<uint64_t, uint64_t> turns;
  for (uint64_t cursor = 0; cursor < 1000; ++cursor) {
    const PlannedBatch batch = plan->At(cursor);
    const auto grouped = static_cast<uint64_t>(batch.hard_share * 48 + 0.5);
    for (uint64_t i = 0; i < 48; ++i) {
      if (i < grouped && i % 4 != 0) continue;
      EXPECT_TRUE(epochs[batch.epoch].insert(batch.identities[i]).second) << "cursor " << cursor;
      ++turns[batch.epoch];
    }
  }
  EXPECT_GE(turns.size(), 3u);
  for (uint64_t epoch = 0; epoch + 1 < turns.size(); ++epoch) EXPECT_GT(turns[epoch], 5000u - 48) << epoch;
}

TEST_F(NeighbourPlanTest, DecisionsChangeNothingBeforeTheirCursor) {
  v1::PlanSpec spec = NamedSpec("look_alikes", 48, 2);
  const auto before = Make(spec);
  v1::HardnessDecision& decision = *spec.add_hardness();
  decision.set_from_cursor(1000);
  decision.set_hard_share(0.2);
  const auto after = Make(spec);
  for (uint64_t cursor = 900; cursor < 1000; ++cursor) EXPECT_TRUE(before->At(cursor) == after->At(cursor));
  EXPECT_FALSE(before->At(1000) == after->At(1000));
}

TEST_F(NeighbourPlanTest, RefusesWhatCannotBe) {
  const auto error = [this](const v1::PlanSpec& spec) { return PlanError(spec, catalog_, generation_); };
  EXPECT_THAT(error(NamedSpec("nearest_identities", 34, 1)), HasSubstr("at most P = 33"));
  EXPECT_THAT(error(NamedSpec("nearest_identities", 1, 1)), HasSubstr("at least 2"));
  EXPECT_THAT(error(NamedSpec("doppelganger", 7, 1)), HasSubstr("even"));
  EXPECT_THAT(error(NamedSpec("look_alikes", 6000, 1)), HasSubstr("5000 identities are covered"));
  v1::PlanSpec spec = NamedSpec("look_alikes", 8, 1);
  spec.set_groups(3);
  EXPECT_THAT(error(spec), HasSubstr("3 groups of 4 into P = 8"));
  spec = NamedSpec("look_alikes", 8, 1);
  spec.set_pool(2);
  EXPECT_THAT(error(spec), HasSubstr("pool"));
  spec = NamedSpec("doppelganger", 8, 1);
  spec.set_pool(2);
  EXPECT_THAT(error(spec), HasSubstr("does not have it"));
  spec = NamedSpec("offline_triplets", 8, 1);
  spec.set_skip(32);
  EXPECT_THAT(error(spec), HasSubstr("skip"));
  spec = NamedSpec("offline_triplets", 8, 1);
  spec.set_similarity_max(1.5);
  EXPECT_THAT(error(spec), HasSubstr("cosine"));
  spec = NamedSpec("look_alikes", 8, 1);
  spec.add_hardness()->set_hard_share(1.5);
  EXPECT_THAT(error(spec), HasSubstr("hard_share"));
}

TEST_F(NeighbourPlanTest, RefusesGenerationsThatDoNotFit) {
  EXPECT_THAT(PlanError(NamedSpec("look_alikes", 8, 1), catalog_, nullptr), HasSubstr("recluster"));
  EXPECT_THAT(PlanError(NamedSpec("look_alikes", 8, 1), catalog_, NeighbourGeneration(*catalog_, "", 4, 0)),
              HasSubstr("recluster with neighbours"));
  EXPECT_THAT(PlanError(NamedSpec("doppelganger", 8, 1), MakeFakeCatalog(5000, 2, 8, 2), generation_),
              HasSubstr("was mined from catalog"));
}

TEST_F(NeighbourPlanTest, RefusesWhenTheGuardListLeavesTooFew) {
  catalog_ = MakeFakeCatalog(20, 2, 3, 1);
  generation_ = NeighbourGeneration(*catalog_, "", 1, 10);
  std::vector<GuardList::Pair> pairs;
  for (uint32_t i = 1; i < 15; ++i) pairs.push_back({0, i});
  generation_->SetGuardList(GuardList::Make(pairs, {}).value());
  EXPECT_THAT(PlanError(NamedSpec("look_alikes", 8, 1), catalog_, generation_), HasSubstr("guard list"));
  EXPECT_TRUE(MakePlan(NamedSpec("look_alikes", 6, 1), 1, catalog_, generation_).ok());
  EXPECT_THAT(PlanError(NamedSpec("random", 8, 1), catalog_, generation_), HasSubstr("guard list"));
  EXPECT_THAT(PlanError(NamedSpec("subspace", 8, 1), catalog_, generation_), HasSubstr("guard list"));
}

}  // namespace
}  // namespace doppel
