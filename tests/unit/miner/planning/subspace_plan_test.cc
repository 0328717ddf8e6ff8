#include "miner/planning/subspace_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/base/permutation.h"
#include "tests/conformance/plan_conformance.h"
#include "tests/support/fake_catalog.h"
#include "tests/support/fake_generation.h"

namespace doppel {
namespace {

using testing::HasSubstr;

v1::PlanSpec SubspaceSpec(uint32_t p, uint32_t k, uint32_t run_length = 0, const std::string& split = "") {
  v1::PlanSpec spec;
  spec.set_name("subspace");
  spec.set_identities_per_batch(p);
  spec.set_samples_per_identity(k);
  spec.set_run_length(run_length);
  spec.set_split(split);
  return spec;
}

// Subspaces of these sizes, their members scattered over the catalog.
std::shared_ptr<const FakeGeneration> Sized(const Catalog& catalog, const std::vector<uint32_t>& sizes) {
  std::vector<uint32_t> assignment(catalog.num_identities());
  const KeyedPermutation scatter(assignment.size(), 5);
  uint64_t next = 0;
  for (uint32_t s = 0; s < sizes.size(); ++s) {
    for (uint32_t i = 0; i < sizes[s]; ++i) assignment[scatter(next++)] = s;
  }
  auto generation = std::make_shared<FakeGeneration>(3, 0, assignment, sizes.size());
  generation->mutable_info().set_catalog_fingerprint(catalog.fingerprint());
  return generation;
}

std::vector<PlanWorld> SubspaceWorlds() {
  std::vector<PlanWorld> worlds;
  auto add = [&](std::string name, std::shared_ptr<const Catalog> catalog,
                 std::shared_ptr<const Generation> generation, v1::PlanSpec spec) {
    auto group = [generation, p = spec.identities_per_batch()](uint64_t i) -> int64_t {
      if (i < generation->first_identity() ||
          i >= generation->first_identity() + generation->num_identities()) {
        return -1;
      }
      const uint32_t subspace = generation->SubspaceOf(i);
      return generation->Members(subspace).size() < p ? -1 : int64_t{subspace};
    };
    worlds.push_back(
        {std::move(name), std::move(catalog), generation, std::move(spec), 100 + worlds.size(), true, group});
  };
  auto small = MakeFakeCatalog(200, 1, 11, 1);
  add("Drawn", small, MakeFakeGeneration(*small, "", 5, 1), SubspaceSpec(8, 4));
  add("OneSubspace", small, MakeFakeGeneration(*small, "", 1, 1), SubspaceSpec(16, 3));
  add("Runs", small, MakeFakeGeneration(*small, "", 3, 2), SubspaceSpec(4, 2, 4));
  add("RunLongerThanEpoch", small, MakeFakeGeneration(*small, "", 3, 2), SubspaceSpec(16, 2, 1000));
  add("SomeTooSmall", small, Sized(*small, {3, 60, 0, 7, 100, 8, 0, 15, 7}), SubspaceSpec(8, 4));
  add("PIsASubspace", small, Sized(*small, {50, 50, 50, 50}), SubspaceSpec(50, 1));
  add("POfOne", small, Sized(*small, {1, 1, 198}), SubspaceSpec(1, 5));
  auto splits = MakeFakeCatalog(170, 2, 6, 3, {{"test", 50}, {"train", 120}});
  add("Train", splits, MakeFakeGeneration(*splits, "train", 4, 9), SubspaceSpec(6, 4));
  add("Test", splits, MakeFakeGeneration(*splits, "test", 2, 9), SubspaceSpec(6, 4, 2, "test"));
  return worlds;
}

INSTANTIATE_TEST_SUITE_P(Subspace, PlanConformance, testing::ValuesIn(SubspaceWorlds()), PlanWorldName);

class SubspacePlanTest : public testing::Test {
 protected:
  std::shared_ptr<const Plan> Make(const v1::PlanSpec& spec) {
    return MakePlan(spec, 1, catalog_, generation_).value();
  }
  std::vector<int32_t> Visits(const Plan& plan, uint64_t epoch) {
    const uint64_t batches = plan.coverage().batches_per_epoch;
    std::vector<int32_t> visits;
    for (uint64_t b = 0; b < batches; ++b) visits.push_back(plan.At(epoch * batches + b).subspace);
    return visits;
  }
  std::string Error(const v1::PlanSpec& spec) {
    const absl::Status status = MakePlan(spec, 1, catalog_, generation_).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  }

  std::shared_ptr<const FakeCatalog> catalog_ = MakeFakeCatalog(1000, 1, 4, 1);
  std::shared_ptr<const Generation> generation_ = Sized(*catalog_, {600, 90, 300, 9, 1});
};

TEST_F(SubspacePlanTest, SubspacesAreVisitedInProportionToSize) {
  std::map<int32_t, int> count;
  for (int32_t subspace : Visits(*Make(SubspaceSpec(10, 1)), 0)) ++count[subspace];
  EXPECT_EQ(count, (std::map<int32_t, int>{{0, 60}, {1, 9}, {2, 30}}));
}

TEST_F(SubspacePlanTest, SubspacesAreInterleaved) {
  const std::vector<int32_t> visits = Visits(*Make(SubspaceSpec(10, 1)), 0);
  int changes = 0;
  for (size_t i = 1; i < visits.size(); ++i) changes += visits[i] != visits[i - 1];
  EXPECT_GT(changes, 30);  // 53 expected of 98
}

TEST_F(SubspacePlanTest, RunsStayInOneSubspaceButAtItsBorder) {
  const std::vector<int32_t> visits = Visits(*Make(SubspaceSpec(10, 1, 5)), 0);
  int cut = 0;
  for (size_t block = 0; block + 5 <= visits.size(); block += 5) {
    cut += std::set<int32_t>(visits.begin() + block, visits.begin() + block + 5).size() > 1;
  }
  EXPECT_LE(cut, 2);  // three subspaces have two borders
}

TEST_F(SubspacePlanTest, RunLengthZeroIsOne) {
  const auto a = Make(SubspaceSpec(10, 2, 0)), b = Make(SubspaceSpec(10, 2, 1));
  for (uint64_t cursor = 0; cursor < 200; ++cursor) EXPECT_TRUE(a->At(cursor) == b->At(cursor));
}

TEST_F(SubspacePlanTest, RunLengthOnlyReordersTheBatchesOfAnEpoch) {
  const auto single = Make(SubspaceSpec(10, 2, 1)), runs = Make(SubspaceSpec(10, 2, 7));
  std::set<std::vector<uint64_t>> a, b;
  for (uint64_t cursor = 0; cursor < single->coverage().batches_per_epoch; ++cursor) {
    a.insert(single->At(cursor).samples);
    b.insert(runs->At(cursor).samples);
  }
  EXPECT_EQ(a, b);
}

TEST_F(SubspacePlanTest, SmallSubspacesAreLeftOutAndReported) {
  const auto plan = Make(SubspaceSpec(10, 1));
  const PlanCoverage& coverage = plan->coverage();
  EXPECT_EQ(coverage.identities, 990u);
  EXPECT_EQ(coverage.batches_per_epoch, 99u);
  EXPECT_EQ(coverage.left_out, 10u);
  EXPECT_THAT(coverage.left_out_reason, HasSubstr("2 subspaces"));
}

TEST_F(SubspacePlanTest, WorksOnASubspaceOfExactlyP) {
  const auto plan = Make(SubspaceSpec(600, 1));
  EXPECT_EQ(plan->coverage().batches_per_epoch, 1u);
  EXPECT_EQ(plan->At(7).subspace, 0);
}

TEST_F(SubspacePlanTest, RefusesPLargerThanEverySubspace) {
  EXPECT_THAT(Error(SubspaceSpec(601, 1)), HasSubstr("largest of the 5 subspaces of generation 3 has 600"));
}

TEST_F(SubspacePlanTest, RefusesIdentityLimit) {
  v1::PlanSpec spec = SubspaceSpec(10, 1);
  spec.set_identity_limit(100);
  EXPECT_THAT(Error(spec), HasSubstr("identity_limit"));
}

TEST_F(SubspacePlanTest, RefusesToWorkWithoutAGeneration) {
  generation_ = nullptr;
  EXPECT_THAT(Error(SubspaceSpec(10, 1)), HasSubstr("recluster"));
}

TEST_F(SubspacePlanTest, RefusesAGenerationOfAnotherCatalog) {
  catalog_ = MakeFakeCatalog(1000, 1, 4, 2);
  EXPECT_THAT(Error(SubspaceSpec(10, 1)), HasSubstr("catalog"));
}

TEST_F(SubspacePlanTest, RefusesASplitThatTheGenerationDoesNotCover) {
  catalog_ = MakeFakeCatalog(1000, 1, 4, 2, {{"train", 700}, {"test", 300}});
  generation_ = MakeFakeGeneration(*catalog_, "train", 3, 1);
  EXPECT_TRUE(MakePlan(SubspaceSpec(10, 1), 1, catalog_, generation_).ok());
  EXPECT_TRUE(MakePlan(SubspaceSpec(10, 1, 0, "train"), 1, catalog_, generation_).ok());
  const std::string error = Error(SubspaceSpec(10, 1, 0, "test"));
  EXPECT_THAT(error, HasSubstr("split \"test\""));
  EXPECT_THAT(error, HasSubstr("covers split \"train\""));
}

TEST_F(SubspacePlanTest, IdentityWithoutSamplesIsLeftOutOfItsBatch) {
  catalog_ = std::make_shared<FakeCatalog>(std::vector<uint32_t>{3, 0, 2, 1});
  generation_ = Sized(*catalog_, {4});
  const PlannedBatch batch = Make(SubspaceSpec(4, 2))->At(5);
  EXPECT_EQ(std::set<uint64_t>(batch.identities.begin(), batch.identities.end()),
            (std::set<uint64_t>{0, 2, 3}));
  EXPECT_EQ(batch.samples.size(), 6u);
}

TEST_F(SubspacePlanTest, ThePlanKeepsItsGenerationAlive) {
  const auto plan = Make(SubspaceSpec(10, 2));
  const PlannedBatch before = plan->At(17);
  std::weak_ptr<const Generation> watch = generation_;
  generation_ = nullptr;
  catalog_ = nullptr;
  EXPECT_FALSE(watch.expired());
  EXPECT_TRUE(plan->At(17) == before);
}

// ---- stages

void AddSubspaceStage(v1::PlanSpec* spec, uint64_t from_cursor, const std::vector<float>& weights,
                      uint64_t generation = 3) {
  v1::SubspaceStage& stage = *spec->add_subspace_stage();
  stage.set_from_cursor(from_cursor);
  stage.set_generation(generation);
  stage.mutable_weight()->Add(weights.begin(), weights.end());
}

TEST_F(SubspacePlanTest, AStageChangesNothingBeforeItsRound) {
  v1::PlanSpec spec = SubspaceSpec(10, 1);
  const auto plain = Make(spec);
  AddSubspaceStage(&spec, 150, {1, 1, 1, 1, 1});
  const auto staged = Make(spec);
  // Rounds of 99: the next one begins at 198.
  for (uint64_t cursor = 0; cursor < 198; ++cursor) ASSERT_TRUE(plain->At(cursor) == staged->At(cursor));
  EXPECT_FALSE(staged->At(197).subspace_stage.has_value());
  std::map<int32_t, int> count;
  for (uint64_t cursor = 198; cursor < 297; ++cursor) {
    EXPECT_EQ(staged->At(cursor).subspace_stage, 150U);
    EXPECT_NEAR(staged->At(cursor).subspace_share, 1.0 / 3, 1e-9);
    ++count[staged->At(cursor).subspace];
  }
  EXPECT_EQ(count, (std::map<int32_t, int>{{0, 33}, {1, 33}, {2, 33}}));
}

TEST_F(SubspacePlanTest, CellsGoOnWhereTheyWereWhenAStageBegins) {
  v1::PlanSpec spec = SubspaceSpec(10, 1);
  for (uint64_t from : {0, 99, 300, 310, 700}) {
    AddSubspaceStage(&spec, from, {1, static_cast<float>(from % 7), 2, 1, 1});
  }
  const auto plan = Make(spec);
  // Of each subspace: everybody once before anybody comes again.
  std::map<int32_t, std::map<uint64_t, uint64_t>> seen;
  // Up to the end of a round: within one, visits come in a keyed order.
  for (uint64_t cursor = 0; cursor < 1300 || plan->At(cursor - 1).epoch == plan->At(cursor).epoch; ++cursor) {
    const PlannedBatch batch = plan->At(cursor);
    for (uint64_t identity : batch.identities) ++seen[batch.subspace][identity];
  }
  for (const auto& [subspace, counts] : seen) {
    const uint64_t size = generation_->Members(subspace).size();
    uint64_t least = UINT64_MAX, most = 0;
    for (const auto& [identity, count] : counts) {
      least = std::min(least, count);
      most = std::max(most, count);
    }
    EXPECT_EQ(counts.size(), size);
    EXPECT_LE(most - least, 1U) << "subspace " << subspace;
  }
}

TEST_F(SubspacePlanTest, OfStagesThatBeginWithOneRoundTheLastCounts) {
  v1::PlanSpec spec = SubspaceSpec(10, 1), one = spec;
  AddSubspaceStage(&spec, 10, {1, 0, 0, 0, 0});
  AddSubspaceStage(&spec, 20, {0, 0, 1, 0, 0});
  AddSubspaceStage(&one, 20, {0, 0, 1, 0, 0});
  const auto both = Make(spec), last = Make(one);
  for (uint64_t cursor = 0; cursor < 400; ++cursor) ASSERT_TRUE(both->At(cursor) == last->At(cursor));
  EXPECT_EQ(both->At(99).subspace, 2);
}

TEST_F(SubspacePlanTest, StagesOfOtherGenerationsDoNotCount) {
  v1::PlanSpec spec = SubspaceSpec(10, 1);
  const auto plain = Make(spec);
  AddSubspaceStage(&spec, 0, {1, 2}, 9);
  const auto other = Make(spec);
  for (uint64_t cursor = 0; cursor < 200; ++cursor) ASSERT_TRUE(plain->At(cursor) == other->At(cursor));
}

TEST_F(SubspacePlanTest, RefusesBadStages) {
  v1::PlanSpec spec = SubspaceSpec(10, 1);
  AddSubspaceStage(&spec, 5, {1, 2, 3});
  EXPECT_THAT(Error(spec), HasSubstr("each of the 5"));
  spec.clear_subspace_stage();
  AddSubspaceStage(&spec, 5, {0, 0, 0, 0, 0});
  EXPECT_THAT(Error(spec), HasSubstr("from cursor 5"));
  spec.clear_subspace_stage();
  AddSubspaceStage(&spec, 5, {1, 1, 1, 1, 1});
  AddSubspaceStage(&spec, 5, {1, 1, 1, 1, 1});
  EXPECT_THAT(Error(spec), HasSubstr("not above"));
  spec.mutable_subspace_stage()->RemoveLast();
  spec.mutable_subspace_stage(0)->set_from_cursor(UINT64_MAX);
  EXPECT_THAT(Error(spec), HasSubstr("from_cursor"));
  spec.mutable_subspace_stage(0)->set_from_cursor(0);
  for (int m = 0; m < 5; ++m) spec.add_subspace_weight(1);
  EXPECT_THAT(Error(spec), HasSubstr("both set"));
}

}  // namespace
}  // namespace doppel
