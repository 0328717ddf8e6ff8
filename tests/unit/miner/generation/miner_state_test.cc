#include "miner/generation/miner_state.h"

#include <gtest/gtest.h>

namespace doppel {
namespace {

v1::MinerUpdate Started(const std::string& id, uint64_t generation) {
  v1::MinerUpdate update;
  update.mutable_operation_started()->set_id(id);
  update.mutable_operation_started()->set_generation(generation);
  return update;
}
v1::MinerUpdate Ended(const std::string& id, v1::Operation::State state) {
  v1::MinerUpdate update;
  update.mutable_operation_ended()->set_id(id);
  update.mutable_operation_ended()->set_state(state);
  return update;
}
v1::MinerUpdate Published(uint64_t generation) {
  v1::MinerUpdate update;
  update.mutable_generation_published()->set_generation(generation);
  return update;
}
v1::MinerUpdate Activated(uint64_t generation) {
  v1::MinerUpdate update;
  update.mutable_generation_activated()->set_generation(generation);
  return update;
}

TEST(MinerStateTest, FollowsAnOperationToItsGeneration) {
  MinerState state;
  ASSERT_TRUE(state.Apply(Started("a", 1)).ok());
  ASSERT_NE(state.Running(), nullptr);
  EXPECT_EQ(state.Running()->started.id(), "a");
  ASSERT_TRUE(state.Apply(Published(1)).ok());
  EXPECT_EQ(state.active(), 0U);
  ASSERT_TRUE(state.Apply(Activated(1)).ok());
  ASSERT_TRUE(state.Apply(Ended("a", v1::Operation::STATE_SUCCEEDED)).ok());
  EXPECT_EQ(state.Running(), nullptr);
  EXPECT_EQ(state.active(), 1U);
  EXPECT_EQ(state.last_number(), 1U);
  EXPECT_EQ(state.Find("a")->ended->state(), v1::Operation::STATE_SUCCEEDED);
}

TEST(MinerStateTest, NumbersOfFailedOperationsAreNotUsedAgain) {
  MinerState state;
  ASSERT_TRUE(state.Apply(Started("a", 1)).ok());
  ASSERT_TRUE(state.Apply(Ended("a", v1::Operation::STATE_FAILED)).ok());
  EXPECT_FALSE(state.Apply(Started("b", 1)).ok());
  EXPECT_TRUE(state.Apply(Started("b", 2)).ok());
}

TEST(MinerStateTest, RefusesContradictionsAndStaysAsItWas) {
  MinerState state;
  ASSERT_TRUE(state.Apply(Started("a", 3)).ok());
  const std::string before = state.DebugString();
  EXPECT_FALSE(state.Apply(v1::MinerUpdate()).ok());
  EXPECT_FALSE(state.Apply(Started("b", 4)).ok()) << "one is running";
  EXPECT_FALSE(state.Apply(Started("a", 4)).ok()) << "the same id";
  EXPECT_FALSE(state.Apply(Started("", 4)).ok());
  EXPECT_FALSE(state.Apply(Published(2)).ok()) << "not its number";
  EXPECT_FALSE(state.Apply(Activated(3)).ok()) << "not published";
  EXPECT_FALSE(state.Apply(Ended("b", v1::Operation::STATE_FAILED)).ok());
  EXPECT_FALSE(state.Apply(Ended("a", v1::Operation::STATE_SUCCEEDED)).ok()) << "nothing published";
  EXPECT_EQ(state.DebugString(), before);
  ASSERT_TRUE(state.Apply(Published(3)).ok());
  EXPECT_FALSE(state.Apply(Published(3)).ok()) << "twice";
}

TEST(MinerStateTest, FindsNothingUnderUnknownNames) {
  MinerState state;
  EXPECT_EQ(state.Find("a"), nullptr);
  EXPECT_EQ(state.Running(), nullptr);
}

// Generations 1 and 2, of which 2 is active.
MinerState TwoGenerations() {
  MinerState state;
  for (const uint64_t number : {1, 2}) {
    const std::string id(number, 'a');
    EXPECT_TRUE(state.Apply(Started(id, number)).ok());
    EXPECT_TRUE(state.Apply(Published(number)).ok());
    EXPECT_TRUE(state.Apply(Activated(number)).ok());
    EXPECT_TRUE(state.Apply(Ended(id, v1::Operation::STATE_SUCCEEDED)).ok());
  }
  return state;
}
v1::MinerUpdate RolledBack(uint64_t generation) {
  v1::MinerUpdate update = Activated(generation);
  update.mutable_generation_activated()->set_rollback(true);
  return update;
}
v1::MinerUpdate Retired(uint64_t generation) {
  v1::MinerUpdate update;
  update.mutable_generation_retired()->set_generation(generation);
  return update;
}
v1::MinerUpdate Pinned(uint64_t generation, bool pinned = true) {
  v1::MinerUpdate update;
  update.mutable_generation_pinned()->set_generation(generation);
  update.mutable_generation_pinned()->set_pinned(pinned);
  return update;
}
v1::MinerUpdate Derived(uint64_t generation, uint64_t base) {
  v1::MinerUpdate update = Published(generation);
  update.mutable_generation_published()->set_base(base);
  return update;
}
v1::MinerUpdate Queued(const std::string& id, uint64_t generation) {
  v1::MinerUpdate update;
  update.mutable_operation_queued()->mutable_operation()->set_id(id);
  update.mutable_operation_queued()->mutable_operation()->set_generation(generation);
  return update;
}

TEST(MinerStateTest, RollingBackForgetsWhatCameAfter) {
  MinerState state = TwoGenerations();
  EXPECT_EQ(state.previously_active(), 1U);
  EXPECT_FALSE(state.Apply(RolledBack(2)).ok()) << "is active";
  ASSERT_TRUE(state.Apply(RolledBack(1)).ok());
  EXPECT_EQ(state.active(), 1U);
  EXPECT_EQ(state.previously_active(), 0U);
  ASSERT_TRUE(state.Apply(Activated(2)).ok());
  ASSERT_TRUE(state.Apply(Activated(1)).ok());
  ASSERT_TRUE(state.Apply(RolledBack(2)).ok());
  ASSERT_TRUE(state.Apply(RolledBack(1)).ok());
}

TEST(MinerStateTest, RetiresNeitherTheActiveNorAPinnedOne) {
  MinerState state = TwoGenerations();
  EXPECT_FALSE(state.Apply(Retired(2)).ok());
  ASSERT_TRUE(state.Apply(Pinned(1)).ok());
  EXPECT_FALSE(state.Apply(Retired(1)).ok());
  ASSERT_TRUE(state.Apply(Pinned(1, false)).ok());
  ASSERT_TRUE(state.Apply(Retired(1)).ok());
  EXPECT_EQ(state.published().count(1), 0U);
  EXPECT_EQ(state.retired().count(1), 1U);
  EXPECT_EQ(state.previously_active(), 0U);
  EXPECT_FALSE(state.Apply(Retired(1)).ok());
  EXPECT_FALSE(state.Apply(Activated(1)).ok());
  EXPECT_FALSE(state.Apply(Pinned(1)).ok());
  EXPECT_FALSE(state.Apply(Derived(3, 1)).ok());
}

TEST(MinerStateTest, AGenerationMadeOfAnotherHasANumberOfItsOwn) {
  MinerState state = TwoGenerations();
  ASSERT_TRUE(state.Apply(Started("job", 3)).ok());
  EXPECT_FALSE(state.Apply(Derived(3, 2)).ok()) << "promised";
  EXPECT_FALSE(state.Apply(Derived(2, 1)).ok()) << "published";
  EXPECT_FALSE(state.Apply(Derived(4, 3)).ok()) << "of nothing";
  ASSERT_TRUE(state.Apply(Derived(4, 2)).ok());
  EXPECT_EQ(state.last_number(), 4U);
  ASSERT_TRUE(state.Apply(Published(3)).ok()) << "the job goes on";
}

TEST(MinerStateTest, AQueuedOperationStartsAsItWasQueued) {
  MinerState state = TwoGenerations();
  ASSERT_TRUE(state.Apply(Started("job", 3)).ok());
  ASSERT_TRUE(state.Apply(Queued("next", 4)).ok());
  EXPECT_FALSE(state.Apply(Queued("next", 5)).ok());
  EXPECT_FALSE(state.Apply(Queued("other", 4)).ok());
  EXPECT_FALSE(state.Apply(Started("next", 4)).ok()) << "one at a time";
  ASSERT_NE(state.Find("next"), nullptr);
  EXPECT_TRUE(state.Find("next")->queued);
  ASSERT_TRUE(state.Apply(Ended("job", v1::Operation::STATE_FAILED)).ok());
  EXPECT_FALSE(state.Apply(Started("next", 5)).ok());
  ASSERT_TRUE(state.Apply(Started("next", 4)).ok());
  EXPECT_FALSE(state.Find("next")->queued);
  EXPECT_TRUE(state.queued().empty());
}

TEST(MinerStateTest, AQueuedOperationCanEndWithoutHavingRun) {
  MinerState state = TwoGenerations();
  ASSERT_TRUE(state.Apply(Started("job", 3)).ok());
  ASSERT_TRUE(state.Apply(Queued("next", 4)).ok());
  EXPECT_FALSE(state.Apply(Ended("next", v1::Operation::STATE_SUCCEEDED)).ok());
  ASSERT_TRUE(state.Apply(Ended("next", v1::Operation::STATE_CANCELLED)).ok());
  ASSERT_NE(state.Running(), nullptr);
  EXPECT_EQ(state.Running()->started.id(), "job");
  EXPECT_EQ(state.Find("next")->ended->state(), v1::Operation::STATE_CANCELLED);
}

TEST(MinerStateTest, ADryRunSucceedsWithoutPublishing) {
  MinerState state;
  v1::MinerUpdate started = Started("a", 1);
  started.mutable_operation_started()->mutable_request()->set_dry_run(true);
  ASSERT_TRUE(state.Apply(started).ok());
  EXPECT_FALSE(state.Apply(Published(1)).ok());
  EXPECT_TRUE(state.Apply(Ended("a", v1::Operation::STATE_SUCCEEDED)).ok());
}

TEST(MinerStateTest, KnowsTheLastPolicy) {
  MinerState state;
  EXPECT_FALSE(state.policy().has_value());
  v1::MinerUpdate update;
  update.mutable_policy_changed()->mutable_policy()->set_every_batches(9);
  ASSERT_TRUE(state.Apply(update).ok());
  EXPECT_EQ(state.policy()->every_batches(), 9U);
}

}  // namespace
}  // namespace doppel
