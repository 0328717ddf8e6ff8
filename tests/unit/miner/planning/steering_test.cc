// Plans that follow reports: decisions are facts, so a cursor gives one batch for ever.
#include "miner/planning/steering.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/base/philox.h"
#include "common/io/fault_file_system.h"
#include "common/io/memory_file_system.h"
#include "tests/conformance/plan_conformance.h"
#include "tests/support/fake_catalog.h"
#include "tests/support/fake_generation.h"

namespace doppel {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint32_t kSteeredP = 12;

v1::SubspaceHardness Seen(uint32_t subspace, double active, double loss) {
  v1::SubspaceHardness one;
  one.set_subspace(subspace);
  one.set_active_share(active);
  one.set_loss(loss);
  return one;
}

TEST(HardnessWeights, AreTheSizesAsLongAsNobodyReports) {
  EXPECT_THAT(HardnessWeights({3, 5, 2}, {}), ElementsAre(3, 5, 2));
}

TEST(HardnessWeights, FollowActiveShareAndLossOverTheMean) {
  // Means 0.2 and 1: the first is twice as active, the second's loss is half.
  const std::vector<v1::SubspaceHardness> seen = {Seen(0, 0.4, 1.5), Seen(2, 0.0, 0.5)};
  EXPECT_THAT(HardnessWeights({10, 7, 10}, seen), ElementsAre(17.5F, 7, 2.5F));
}

TEST(HardnessWeights, AreBounded) {
  std::vector<float> sizes(100, 1);
  std::vector<v1::SubspaceHardness> seen = {Seen(0, 1, 100)};
  for (uint32_t m = 1; m < 100; ++m) seen.push_back(Seen(m, 0, 0));
  const std::vector<float> weights = HardnessWeights(sizes, seen);
  EXPECT_EQ(weights[0], 4);
  EXPECT_EQ(weights[1], 0.25F);
  // Nothing is active, nothing is lost: nobody is harder.
  EXPECT_THAT(HardnessWeights({2, 3}, {Seen(0, 0, 0), Seen(1, 0, 0)}), ElementsAre(2, 3));
}

TEST(HardnessWeights, SubspacesThatAreNotThereDoNotCount) {
  EXPECT_THAT(HardnessWeights({2, 3}, {Seen(7, 1, 1)}), ElementsAre(2, 3));
}

class SteeringTest : public testing::Test {
 protected:
  SteeringTest() : generation_(Made(3)) {}

  std::shared_ptr<const FakeGeneration> Made(uint64_t number) const {
    std::vector<uint32_t> assignment;
    for (uint64_t i = 0; i < catalog_->num_identities(); ++i)
      assignment.push_back(i % 10 < 5 ? 0 : i % 10 - 4);
    auto generation = std::make_shared<FakeGeneration>(number, 0, assignment, 6, /*dimension=*/4);
    generation->SetRandomNeighbours(16, 5);
    generation->mutable_info().set_catalog_fingerprint(catalog_->fingerprint());
    return generation;
  }
  static v1::PlanSpec Spec(const std::string& plan) {
    v1::PlanSpec spec;
    spec.set_name(plan);
    spec.set_identities_per_batch(kSteeredP);
    spec.set_samples_per_identity(2);
    spec.mutable_steering()->set_run("host:/run");
    spec.mutable_steering()->set_window(20);
    return spec;
  }
  static v1::PlanSpec Banded(const std::string& plan = "look_alikes") {
    v1::PlanSpec spec = Spec(plan);
    spec.mutable_steering()->set_active_low(0.1);
    spec.mutable_steering()->set_active_high(0.2);
    return spec;
  }
  static v1::PlanSpec ByHardness(const std::string& plan = "subspace") {
    v1::PlanSpec spec = Spec(plan);
    spec.mutable_steering()->set_by_hardness(true);
    return spec;
  }
  std::unique_ptr<SteeredPlans> Open(FileSystem& fs) {
    return std::make_unique<SteeredPlans>(fs, "/steering");
  }
  PlannedBatch Draw(SteeredPlan& plan, uint64_t cursor) {
    const auto bound = plan.At(cursor, generation_, catalog_);
    EXPECT_TRUE(bound.ok()) << bound.status();
    return bound.ok() ? (*bound)->plan->At(cursor) : PlannedBatch();
  }
  // What a trainer would say of a batch: look-alikes and the last subspaces are harder.
  void ReportOn(SteeredPlans& plans, const PlannedBatch& batch, const std::string& run = "host:/run") {
    v1::ReportStepsRequest request;
    request.set_run(run);
    v1::StepReport& step = *request.add_steps();
    step.set_model_step(batch.cursor);
    step.set_generation(generation_->number());
    step.set_cursor(batch.cursor);
    step.set_subspace(batch.subspace);
    const double noise = 0.02 * Philox(9).Uniform(batch.cursor);
    step.set_active_share(batch.subspace >= 0 ? 0.05 * batch.subspace + noise
                                              : 0.8 * batch.hard_share + noise);
    step.set_loss(0.5);
    plans.Report(request);
  }
  std::vector<PlannedBatch> Train(SteeredPlans& plans, const v1::PlanSpec& spec, uint64_t from, uint64_t to) {
    const std::shared_ptr<SteeredPlan> plan = plans.Join(spec, 7).value();
    std::vector<PlannedBatch> batches;
    uint64_t reported = from;
    for (uint64_t cursor = from; cursor < to; ++cursor) {
      batches.push_back(Draw(*plan, cursor));
      // Reports come behind, as batches are prefetched.
      if (cursor >= from + 8) ReportOn(plans, batches[reported++ - from]);
    }
    return batches;
  }
  // Any cursor again, in any order, gives what it gave.
  void ExpectSame(SteeredPlans& plans, const v1::PlanSpec& spec, const std::vector<PlannedBatch>& batches) {
    const std::shared_ptr<SteeredPlan> plan = plans.Join(spec, 7).value();
    for (size_t i = batches.size(); i-- > 0;) {
      ASSERT_TRUE(Draw(*plan, batches[i].cursor) == batches[i]) << "cursor " << batches[i].cursor;
    }
  }

  std::shared_ptr<const FakeCatalog> catalog_ = MakeFakeCatalog(600, 2, 5, 1);
  std::shared_ptr<const FakeGeneration> generation_;
  InMemoryFileSystem fs_;
};

TEST_F(SteeringTest, HoldsTheActiveShareInItsBand) {
  const auto plans = Open(fs_);
  const std::vector<PlannedBatch> batches = Train(*plans, Banded(), 0, 1500);
  EXPECT_DOUBLE_EQ(batches.front().hard_share, 1.0 / 3) << "half of 12 in groups of 4";
  double active = 0;
  for (size_t i = 1000; i < 1500; ++i) active += 0.8 * batches[i].hard_share / 500;
  EXPECT_LT(active, 0.27) << "one group or none";
  EXPECT_GE(plans->List("").plans(0).plan().hardness_size(), 1);
}

TEST_F(SteeringTest, ACursorGivesTheSameBatchWhateverWasDecidedSince) {
  for (const v1::PlanSpec& spec : {Banded(), ByHardness(), ByHardness("subspace_overlap")}) {
    InMemoryFileSystem fs;
    const auto plans = Open(fs);
    const std::vector<PlannedBatch> batches = Train(*plans, spec, 0, 900);
    ExpectSame(*plans, spec, batches);
    // The decisions alone say as much: to a miner that steers nothing.
    const v1::PlanSpec facts = plans->List("host:/run").plans(0).plan();
    const auto plain = MakePlan(facts, 7, catalog_, generation_);
    ASSERT_TRUE(plain.ok()) << plain.status();
    for (const PlannedBatch& batch : batches)
      ASSERT_TRUE((*plain)->At(batch.cursor) == batch) << batch.cursor;
  }
}

TEST_F(SteeringTest, ARestartReplaysTheSameStream) {
  for (const v1::PlanSpec& spec : {Banded(), ByHardness()}) {
    InMemoryFileSystem fs;
    std::vector<PlannedBatch> batches = Train(*Open(fs), spec, 0, 700);
    fs.DropUnsynced();
    const auto plans = Open(fs);
    ExpectSame(*plans, spec, batches);
    const std::vector<PlannedBatch> more = Train(*plans, spec, 690, 2500);
    for (size_t i = 0; i < 10; ++i) ASSERT_TRUE(more[i] == batches[690 + i]);
    batches.resize(690);
    batches.insert(batches.end(), more.begin(), more.end());
    ExpectSame(*Open(fs), spec, batches);
  }
}

TEST_F(SteeringTest, ACrashAtAnyWriteKeepsWhatWasDrawn) {
  uint64_t calls = 0;
  {
    InMemoryFileSystem disk;
    FaultInjectingFileSystem fs(disk);
    Train(*Open(fs), Banded(), 0, 120);
    calls = fs.calls();
  }
  ASSERT_GT(calls, 6U);
  for (uint64_t call = 0; call < calls; ++call) {
    InMemoryFileSystem disk;
    FaultInjectingFileSystem fs(disk);
    fs.Inject(
        {call, FaultInjectingFileSystem::Error::kNoSpace, FaultInjectingFileSystem::Lasting::kForGood, 0.5});
    std::vector<PlannedBatch> batches;
    {
      const auto plans = Open(fs);
      const auto plan = plans->Join(Banded(), 7);
      for (uint64_t cursor = 0; plan.ok() && cursor < 120; ++cursor) {
        const auto bound = (*plan)->At(cursor, generation_, catalog_);
        if (!bound.ok()) break;
        batches.push_back((*bound)->plan->At(cursor));
        ReportOn(*plans, batches.back());
      }
    }
    disk.DropUnsynced();
    ExpectSame(*Open(disk), Banded(), batches);
  }
}

TEST_F(SteeringTest, HardSubspacesAreVisitedMore) {
  const auto plans = Open(fs_);
  const std::vector<PlannedBatch> batches = Train(*plans, ByHardness(), 0, 2000);
  std::map<int32_t, int> first, last;
  for (size_t i = 0; i < 100; ++i) ++first[batches[i].subspace];
  for (size_t i = 1500; i < 2000; ++i) ++last[batches[i].subspace];
  EXPECT_NEAR(first[0], 50, 12) << "by size";
  EXPECT_LT(last[0], 200) << "the easiest";
  EXPECT_GT(last[5], 1.5 * last[1]) << "as large, and five times as active";
  EXPECT_EQ(batches.front().subspace_stage, 0U);
  EXPECT_GT(*batches.back().subspace_stage, 0U);
  EXPECT_GT(batches.back().subspace_share, 0);
}

TEST_F(SteeringTest, ANewGenerationBeginsWithTheSizes) {
  const auto plans = Open(fs_);
  Train(*plans, ByHardness(), 0, 600);
  const int stages = plans->List("").plans(0).plan().subspace_stage_size();
  EXPECT_GT(stages, 1);
  const auto third = generation_;
  generation_ = Made(4);
  const auto plan = plans->Join(ByHardness(), 7).value();
  EXPECT_EQ(Draw(*plan, 600).subspace_stage, 0U);
  generation_ = third;
  EXPECT_GT(*Draw(*plan, 601).subspace_stage, 0U) << "a rollback finds what it had";
}

TEST_F(SteeringTest, OnlyItsOwnRunAndStreamCount) {
  const auto plans = Open(fs_);
  const auto plan = plans->Join(Banded(), 7).value();
  const PlannedBatch batch = Draw(*plan, 0);
  ReportOn(*plans, batch, "host:/other");
  PlannedBatch never = batch;
  never.cursor = 5000;
  ReportOn(*plans, never);
  EXPECT_EQ(plan->Describe().reports(), 0U);
  ReportOn(*plans, batch);
  EXPECT_EQ(plan->Describe().reports(), 1U);
  v1::ReportStepsRequest request;
  request.set_run("host:/run");
  request.add_steps();
  plans->Report(request);
  EXPECT_EQ(plan->Describe().reports(), 1U) << "its active share is not known";
  EXPECT_EQ(plans->List("host:/other").plans_size(), 0);
}

TEST_F(SteeringTest, EachPlanAndSeedIsSteeredByItself) {
  const auto plans = Open(fs_);
  const auto one = plans->Join(Banded(), 7).value();
  EXPECT_EQ(plans->Join(Banded(), 7).value(), one);
  EXPECT_NE(plans->Join(Banded(), 8).value(), one);
  EXPECT_NE(plans->Join(Banded("mixture"), 7).value(), one);
  EXPECT_EQ(plans->List("").plans_size(), 3);
}

TEST_F(SteeringTest, ABrokenJournalStopsThePlanUntilItIsOpenedAgain) {
  FaultInjectingFileSystem fs(fs_);
  const auto plans = Open(fs);
  const auto plan = plans->Join(Banded(), 7).value();
  fs.Inject({fs.calls(), FaultInjectingFileSystem::Error::kIo, FaultInjectingFileSystem::Lasting::kOnce, 0});
  EXPECT_EQ(plan->At(0, generation_, catalog_).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(plan->At(0, generation_, catalog_).status().code(), absl::StatusCode::kUnavailable);
  const auto again = plans->Join(Banded(), 7);
  ASSERT_TRUE(again.ok());
  EXPECT_TRUE((*again)->At(0, generation_, catalog_).ok());
}

TEST_F(SteeringTest, RefusesWhatCannotBeSteered) {
  const auto plans = Open(fs_);
  const auto error = [&plans](const v1::PlanSpec& spec) {
    const absl::Status status = plans->Join(spec, 1).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(error(Spec("auto")), HasSubstr("nothing is steered"));
  EXPECT_THAT(error(Banded("subspace")), HasSubstr("no hard share"));
  EXPECT_THAT(error(ByHardness("look_alikes")), HasSubstr("does not visit subspaces"));
  v1::PlanSpec spec = Banded();
  spec.mutable_steering()->clear_run();
  EXPECT_THAT(error(spec), HasSubstr("steering.run"));
  spec = Banded();
  spec.mutable_steering()->set_active_high(0.05);
  EXPECT_THAT(error(spec), HasSubstr("band"));
  spec = Banded();
  spec.add_hardness()->set_hard_share(0.5);
  EXPECT_THAT(error(spec), HasSubstr("leave them out"));
  EXPECT_EQ(SteeredPlans(fs_, "").Join(Banded(), 1).status().code(), absl::StatusCode::kFailedPrecondition);
  // Nobody else may take the request for a plan of facts.
  const absl::Status plain = MakePlan(Banded(), 1, catalog_, generation_).status();
  EXPECT_THAT(std::string(plain.message()), HasSubstr("steering"));
}

TEST_F(SteeringTest, AutoIsSteeredAndRandomIgnoresIt) {
  const auto plans = Open(fs_);
  const std::vector<PlannedBatch> batches = Train(*plans, Banded("auto"), 0, 300);
  EXPECT_EQ(batches.back().drawn_by, "look_alikes");
  v1::PlanSpec facts = plans->List("").plans(0).plan();
  ASSERT_GT(facts.hardness_size(), 0);
  const auto random = MakePlan(facts, 7, catalog_, nullptr);
  ASSERT_TRUE(random.ok()) << random.status();
  EXPECT_EQ((*random)->At(250).drawn_by, "random");
}

TEST_F(SteeringTest, AGenerationOfAnOlderCatalogDrawsFromThatAfterAnAppend) {
  const auto plans = Open(fs_);
  const std::vector<PlannedBatch> batches = Train(*plans, Banded(), 0, 200);
  const std::shared_ptr<SteeredPlan> plan = plans->Join(Banded(), 7).value();

  const std::shared_ptr<const FakeCatalog> old_catalog = catalog_;
  const std::shared_ptr<const FakeGeneration> old_generation = generation_;
  catalog_ = MakeFakeCatalog(700, 2, 5, 1);
  generation_ = Made(4);
  std::set<uint64_t> drawn;
  for (uint64_t cursor = 200; cursor < 300; ++cursor) {
    const PlannedBatch batch = Draw(*plan, cursor);
    drawn.insert(batch.identities.begin(), batch.identities.end());
  }
  EXPECT_GE(*drawn.rbegin(), 600U) << "none of the appended ones";

  catalog_ = old_catalog;
  generation_ = old_generation;
  ExpectSame(*plans, Banded(), batches);
}

TEST_F(SteeringTest, DecisionsOfAMixtureMoveItsParts) {
  v1::PlanSpec spec = Banded("mixture");
  for (const char* name : {"random", "subspace"}) {
    v1::PlanPart& part = *spec.add_part();
    part.mutable_plan()->set_name(name);
    part.set_weight(1);
  }
  const auto plans = Open(fs_);
  const auto plan = plans->Join(spec, 7).value();
  std::vector<PlannedBatch> batches;
  for (uint64_t cursor = 0; cursor < 400; ++cursor) {
    batches.push_back(Draw(*plan, cursor));
    PlannedBatch hard = batches.back();
    hard.subspace = -1;  // whatever it is, half of it is active
    hard.hard_share = 0.6;
    ReportOn(*plans, hard);
  }
  const auto hard = [&batches](size_t begin, size_t end) {
    return std::count_if(batches.begin() + begin, batches.begin() + end,
                         [](const PlannedBatch& batch) { return batch.drawn_by == "subspace"; });
  };
  EXPECT_EQ(hard(0, 20), 10);
  EXPECT_LT(hard(360, 400), 8);
  ExpectSame(*plans, spec, batches);
}

TEST(DecisionAt, IsTheLastOneThatHolds) {
  v1::PlanSpec spec;
  EXPECT_FALSE(DecisionAt(spec, 5).has_value());
  for (const uint64_t cursor : {10, 20}) {
    v1::HardnessDecision& decision = *spec.add_hardness();
    decision.set_from_cursor(cursor);
  }
  EXPECT_FALSE(DecisionAt(spec, 9).has_value());
  EXPECT_EQ(DecisionAt(spec, 10)->from_cursor(), 10U);
  EXPECT_EQ(DecisionAt(spec, 19)->from_cursor(), 10U);
  EXPECT_EQ(DecisionAt(spec, UINT64_MAX)->from_cursor(), 20U);
}

}  // namespace
}  // namespace doppel
