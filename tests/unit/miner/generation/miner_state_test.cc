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

}  // namespace
}  // namespace doppel
