#include "miner/generation/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace doppel {
namespace {

using testing::HasSubstr;

class ReclusterPolicyTest : public testing::Test {
 protected:
  ReclusterPolicyTest() {
    facts_.now = absl::FromUnixSeconds(1700000000);
    facts_.has_active = true;
  }
  ReclusterPolicy::Verdict Decide() const { return ReclusterPolicy(spec_).Decide(facts_); }

  v1::ReclusterPolicySpec spec_;
  PolicyFacts facts_;
};

TEST_F(ReclusterPolicyTest, DoesNothingUnasked) {
  facts_.batches_since_activation = 1u << 30;
  facts_.staleness_steps = 1u << 30;
  facts_.active_share = 0;
  EXPECT_FALSE(Decide().recluster);
}

TEST_F(ReclusterPolicyTest, ActsAfterSoManyBatches) {
  spec_.set_every_batches(100);
  facts_.batches_since_activation = 99;
  EXPECT_FALSE(Decide().recluster);
  facts_.batches_since_activation = 100;
  EXPECT_TRUE(Decide().recluster);
  EXPECT_THAT(Decide().reason, HasSubstr("100 batches"));
}

TEST_F(ReclusterPolicyTest, ActsWhenTheModelIsTooFarAhead) {
  spec_.set_max_staleness_steps(500);
  facts_.staleness_steps = 500;
  EXPECT_FALSE(Decide().recluster);
  facts_.staleness_steps = 501;
  EXPECT_TRUE(Decide().recluster);
}

TEST_F(ReclusterPolicyTest, ActsOnAFallingActiveShareOnlyIfItIsReported) {
  spec_.set_min_active_share(0.2);
  EXPECT_FALSE(Decide().recluster);
  facts_.active_share = 0.2;
  EXPECT_FALSE(Decide().recluster);
  facts_.active_share = 0.1;
  EXPECT_TRUE(Decide().recluster);
}

TEST_F(ReclusterPolicyTest, TheFirstGenerationIsAskedFor) {
  spec_.set_every_batches(1);
  facts_.batches_since_activation = 9;
  facts_.has_active = false;
  EXPECT_FALSE(Decide().recluster);
}

TEST_F(ReclusterPolicyTest, WaitsForARunningJob) {
  spec_.set_every_batches(1);
  facts_.batches_since_activation = 9;
  facts_.job_running = true;
  EXPECT_FALSE(Decide().recluster);
  EXPECT_THAT(Decide().reason, HasSubstr("running"));
}

TEST_F(ReclusterPolicyTest, DoesNotMineTheSameModelAgain) {
  spec_.set_every_batches(1);
  facts_.batches_since_activation = 9;
  facts_.same_weights = true;
  EXPECT_FALSE(Decide().recluster);
  EXPECT_THAT(Decide().reason, HasSubstr("still that of"));
}

TEST_F(ReclusterPolicyTest, KeepsTheMinimumInterval) {
  spec_.set_every_batches(1);
  spec_.set_min_interval_seconds(300);
  facts_.batches_since_activation = 9;
  facts_.last_start = facts_.now - absl::Seconds(299);
  EXPECT_FALSE(Decide().recluster);
  facts_.last_start = facts_.now - absl::Seconds(300);
  EXPECT_TRUE(Decide().recluster);
}

TEST_F(ReclusterPolicyTest, AMinuteIsTheIntervalThatIsLeftOut) {
  spec_.set_every_batches(1);
  facts_.batches_since_activation = 9;
  facts_.last_start = facts_.now - absl::Seconds(59);
  EXPECT_FALSE(Decide().recluster);
  facts_.last_start = facts_.now - absl::Seconds(60);
  EXPECT_TRUE(Decide().recluster);
}

TEST_F(ReclusterPolicyTest, KeepsTheDaysBudget) {
  spec_.set_every_batches(1);
  spec_.set_max_per_day(3);
  facts_.batches_since_activation = 9;
  facts_.started_within_day = 3;
  EXPECT_FALSE(Decide().recluster);
  EXPECT_THAT(Decide().reason, HasSubstr("budget"));
  facts_.started_within_day = 2;
  EXPECT_TRUE(Decide().recluster);
}

TEST_F(ReclusterPolicyTest, RefusesWhatMakesNoSense) {
  spec_.set_min_active_share(1.5);
  EXPECT_THAT(std::string(ReclusterPolicy::Validate(spec_).message()), HasSubstr("min_active_share"));
  spec_.set_min_active_share(std::numeric_limits<double>::quiet_NaN());
  EXPECT_FALSE(ReclusterPolicy::Validate(spec_).ok());
  spec_.set_min_active_share(0.5);
  EXPECT_TRUE(ReclusterPolicy::Validate(spec_).ok());
  spec_.set_min_interval_seconds(-1);
  EXPECT_THAT(std::string(ReclusterPolicy::Validate(spec_).message()), HasSubstr("min_interval"));
  spec_.set_min_interval_seconds(1);
  spec_.mutable_request()->set_dry_run(true);
  EXPECT_THAT(std::string(ReclusterPolicy::Validate(spec_).message()), HasSubstr("dry_run"));
}

TEST_F(ReclusterPolicyTest, ActsOnTheChurnOfASampleOnlyIfItWasChecked) {
  spec_.set_max_churn(0.3);
  EXPECT_FALSE(Decide().recluster);
  facts_.churn = 0.3;
  EXPECT_FALSE(Decide().recluster);
  facts_.churn = 0.31;
  EXPECT_TRUE(Decide().recluster);
  EXPECT_THAT(Decide().reason, HasSubstr("0.31 of a sample"));
  spec_.set_max_churn(1.5);
  EXPECT_THAT(std::string(ReclusterPolicy::Validate(spec_).message()), HasSubstr("max_churn"));
}

}  // namespace
}  // namespace doppel
