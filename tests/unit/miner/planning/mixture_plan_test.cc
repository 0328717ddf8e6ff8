#include "miner/planning/mixture_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/unit/miner/planning/plan_test_worlds.h"

namespace doppel {
namespace {

using testing::HasSubstr;
using Parts = std::vector<std::pair<std::string, double>>;

v1::PlanSpec Mixture(const Parts& parts, uint32_t p = 8, uint32_t k = 2) {
  v1::PlanSpec spec = NamedSpec("mixture", p, k);
  for (const auto& [name, weight] : parts) {
    v1::PlanPart& part = *spec.add_part();
    part.mutable_plan()->set_name(name);
    part.set_weight(weight);
  }
  return spec;
}

void AddStage(v1::PlanSpec* spec, uint64_t from_cursor, const std::vector<double>& weights) {
  v1::PlanStage& stage = *spec->add_stage();
  stage.set_from_cursor(from_cursor);
  for (double weight : weights) stage.add_weight(weight);
}

void AddDecision(v1::PlanSpec* spec, uint64_t from_cursor, double share) {
  v1::HardnessDecision& decision = *spec->add_hardness();
  decision.set_from_cursor(from_cursor);
  decision.set_hard_share(share);
}

std::vector<PlanWorld> MixtureWorlds() {
  std::vector<PlanWorld> worlds;
  auto add = [&](const std::string& name, std::shared_ptr<const Catalog> catalog,
                 std::shared_ptr<const Generation> generation, v1::PlanSpec spec) {
    worlds.push_back({name,
                      std::move(catalog),
                      generation,
                      std::move(spec),
                      700 + worlds.size(),
                      false,
                      CoveredBy(generation),
                      {},
                      false,
                      false});
  };
  auto catalog = MakeFakeCatalog(210, 1, 9, 1);
  auto plain = NeighbourGeneration(*catalog, "", 4, 15, 4);
  auto guarded = NeighbourGeneration(*catalog, "", 4, 15, 4);
  guarded->SetGuardList(GuardSome(*catalog, 210, {1, 2, 9}));
  const Parts all = {
      {"random", 1},       {"subspace", 2},         {"subspace_overlap", 1}, {"nearest_identities", 4},
      {"doppelganger", 1}, {"offline_triplets", 1}, {"look_alikes", 2}};
  add("OfAll", catalog, plain, Mixture(all));
  add("OfAllGuarded", catalog, guarded, Mixture(all));
  v1::PlanSpec warm_up = Mixture({{"random", 1}, {"subspace", 0}, {"nearest_identities", 0}});
  AddStage(&warm_up, 20, {0, 1, 0});
  AddStage(&warm_up, 60, {1, 0, 3});
  add("WarmUp", catalog, plain, warm_up);
  v1::PlanSpec hardness = NamedSpec("look_alikes", 16, 3);
  AddDecision(&hardness, 0, 0);
  AddDecision(&hardness, 13, 0.5);
  AddDecision(&hardness, 31, 0.9);
  add("Hardness", catalog, plain, hardness);
  add("HardnessGuarded", catalog, guarded, hardness);
  add("Auto", catalog, NeighbourGeneration(*catalog, "", 4, 0), NamedSpec("auto", 8, 2));
  return worlds;
}

INSTANTIATE_TEST_SUITE_P(Mixture, PlanConformance, testing::ValuesIn(MixtureWorlds()), PlanWorldName);

class MixturePlanTest : public testing::Test {
 protected:
  std::shared_ptr<const Plan> Make(const v1::PlanSpec& spec) {
    return MakePlan(spec, 1, catalog_, generation_).value();
  }
  std::map<std::string, int> Drawn(const Plan& plan, uint64_t begin, uint64_t end) {
    std::map<std::string, int> drawn;
    for (uint64_t cursor = begin; cursor < end; ++cursor) ++drawn[plan.At(cursor).drawn_by];
    return drawn;
  }

  std::shared_ptr<const FakeCatalog> catalog_ = MakeFakeCatalog(1000, 2, 8, 1);
  std::shared_ptr<FakeGeneration> generation_ = NeighbourGeneration(*catalog_, "", 4, 16);
};

TEST_F(MixturePlanTest, SharesAreExactAndEvenlySpread) {
  const auto plan = Make(Mixture({{"random", 3}, {"subspace", 1}}));
  EXPECT_EQ(Drawn(*plan, 0, 128), (std::map<std::string, int>{{"random", 96}, {"subspace", 32}}));
  for (uint64_t begin = 0; begin < 1000; begin += 4) EXPECT_EQ(Drawn(*plan, begin, begin + 4)["subspace"], 1);
}

TEST_F(MixturePlanTest, EachPartDrawsItsOwnBatchesOneAfterTheOther) {
  const auto plan = Make(Mixture({{"random", 2}, {"subspace", 1}, {"look_alikes", 0.3}}));
  std::map<std::string, uint64_t> next;
  std::map<std::string, std::shared_ptr<const Plan>> alone;
  for (const char* name : {"random", "subspace", "look_alikes"}) alone[name] = Make(NamedSpec(name, 8, 2));
  for (uint64_t cursor = 0; cursor < 1000; ++cursor) {
    const PlannedBatch batch = plan->At(cursor);
    const PlannedBatch own = alone[batch.drawn_by]->At(next[batch.drawn_by]++);
    EXPECT_EQ(batch.cursor, cursor);
    EXPECT_EQ(batch.samples, own.samples);
    EXPECT_EQ(batch.subspace, own.subspace);
    EXPECT_EQ(batch.epoch, own.epoch);
  }
}

TEST_F(MixturePlanTest, PartsGoOnWhereTheyWereAcrossStagesAndDecisions) {
  v1::PlanSpec spec = Mixture({{"random", 1}, {"subspace", 0}, {"doppelganger", 0}});
  AddStage(&spec, 37, {1, 1, 0});
  AddStage(&spec, 500, {0, 1, 3});
  AddDecision(&spec, 555, 0.25);
  AddDecision(&spec, 700, 0.5);
  const auto plan = Make(spec);
  std::map<std::string, uint64_t> next;
  std::map<std::string, std::shared_ptr<const Plan>> alone;
  for (const char* name : {"random", "subspace", "doppelganger"}) alone[name] = Make(NamedSpec(name, 8, 2));
  for (uint64_t cursor = 0; cursor < 1100; ++cursor) {
    const PlannedBatch batch = plan->At(cursor);
    EXPECT_EQ(batch.samples, alone[batch.drawn_by]->At(next[batch.drawn_by]++).samples) << cursor;
  }
  EXPECT_EQ(Drawn(*plan, 0, 37), (std::map<std::string, int>{{"random", 37}}));
  EXPECT_EQ(Drawn(*plan, 37, 37 + 128), (std::map<std::string, int>{{"random", 64}, {"subspace", 64}}));
  EXPECT_EQ(Drawn(*plan, 700, 700 + 128),
            (std::map<std::string, int>{{"random", 64}, {"subspace", 16}, {"doppelganger", 48}}));
}

TEST_F(MixturePlanTest, ALittleWeightIsNotNone) {
  const auto plan = Make(Mixture({{"random", 1000000}, {"subspace", 1}}));
  EXPECT_EQ(Drawn(*plan, 0, 128)["subspace"], 1);
}

TEST_F(MixturePlanTest, PartsKeepTheirOwnSettings) {
  v1::PlanSpec spec = Mixture({{"random", 1}, {"look_alikes", 1}}, 12);
  spec.mutable_part(1)->mutable_plan()->set_group_size(3);
  spec.mutable_part(1)->mutable_plan()->set_groups(4);
  const auto plan = Make(spec);
  for (uint64_t cursor = 0; cursor < 10; ++cursor) {
    const PlannedBatch batch = plan->At(cursor);
    EXPECT_EQ(batch.hard_share, batch.drawn_by == "random" ? 0 : 1);
  }
}

TEST_F(MixturePlanTest, WithoutPartsItIsLookAlikes) {
  const auto mixture = Make(NamedSpec("mixture", 16, 2)), look_alikes = Make(NamedSpec("look_alikes", 16, 2));
  for (uint64_t cursor = 0; cursor < 100; ++cursor)
    EXPECT_TRUE(mixture->At(cursor) == look_alikes->At(cursor));
}

TEST_F(MixturePlanTest, AutoTakesTheBestThatTheGenerationAllows) {
  EXPECT_EQ(Drawn(*Make(NamedSpec("auto", 16, 2)), 0, 10), (std::map<std::string, int>{{"look_alikes", 10}}));
  generation_ = NeighbourGeneration(*catalog_, "", 4, 0);
  EXPECT_EQ(Drawn(*Make(NamedSpec("auto", 16, 2)), 0, 10),
            (std::map<std::string, int>{{"random", 5}, {"subspace", 5}}));
  EXPECT_EQ(Drawn(*Make(NamedSpec("auto", 900, 1)), 0, 3), (std::map<std::string, int>{{"random", 3}}));
  generation_ = nullptr;
  EXPECT_EQ(Drawn(*Make(NamedSpec("auto", 16, 2)), 0, 10), (std::map<std::string, int>{{"random", 10}}));
}

TEST_F(MixturePlanTest, OnlySomePlansNeedAGeneration) {
  EXPECT_FALSE(PlanNeedsGeneration(NamedSpec("random", 8, 2)));
  EXPECT_FALSE(PlanNeedsGeneration(NamedSpec("auto", 8, 2)));
  EXPECT_TRUE(PlanNeedsGeneration(NamedSpec("look_alikes", 8, 2)));
  EXPECT_TRUE(PlanNeedsGeneration(NamedSpec("mixture", 8, 2)));
  EXPECT_TRUE(PlanNeedsGeneration(Mixture({{"random", 1}, {"subspace", 1}})));
  EXPECT_FALSE(PlanNeedsGeneration(Mixture({{"random", 1}, {"category", 1}})));
}

TEST_F(MixturePlanTest, RefusesWhatCannotBe) {
  const auto error = [this](const v1::PlanSpec& spec) { return PlanError(spec, catalog_, generation_); };
  EXPECT_THAT(error(Mixture({{"mixture", 1}})), HasSubstr("mixture"));
  EXPECT_THAT(error(Mixture({{"random", 0}})), HasSubstr("above 0"));
  EXPECT_THAT(error(Mixture({{"random", -1}, {"subspace", 2}})), HasSubstr("weight -1"));
  EXPECT_THAT(error(Mixture({{"random", 1}, {"hardest", 2}})), HasSubstr("part \"hardest\""));
  EXPECT_THAT(error(Mixture({{"random", 1}, {"subspace", 1}}, 999)), HasSubstr("part \"subspace\""));
  v1::PlanSpec spec = Mixture({{"random", 1}, {"subspace", 1}});
  AddStage(&spec, 5, {1});
  EXPECT_THAT(error(spec), HasSubstr("1 weights for 2 parts"));
  spec = Mixture({{"random", 1}, {"subspace", 1}});
  AddStage(&spec, 5, {1, 0});
  AddStage(&spec, 5, {1, 0});
  EXPECT_THAT(error(spec), HasSubstr("not above"));
  spec = Mixture({{"doppelganger", 1}, {"subspace", 1}});
  AddDecision(&spec, 5, 0.5);
  EXPECT_THAT(error(spec), HasSubstr("needs a random part"));
  spec = Mixture({{"random", 1}});
  spec.mutable_part(0)->mutable_plan()->set_identities_per_batch(9);
  EXPECT_THAT(error(spec), HasSubstr("those of the mixture"));
  spec = NamedSpec("mixture", 8, 2);
  AddStage(&spec, 5, {1, 0});
  EXPECT_THAT(error(spec), HasSubstr("stage"));
}

}  // namespace
}  // namespace doppel
