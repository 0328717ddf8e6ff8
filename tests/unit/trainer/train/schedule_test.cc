#include "trainer/train/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace doppel {
namespace {

using ::testing::HasSubstr;

ScheduleOptions Make(const std::string& name) {
  ScheduleOptions options;
  options.name = name;
  options.rate = 0.1;
  options.steps = 100;
  return options;
}

TEST(ScheduleTest, ConstantStays) {
  for (uint64_t done : {0, 50, 99, 1000}) EXPECT_DOUBLE_EQ(LearningRate(Make("constant"), done), 0.1);
}

TEST(ScheduleTest, WarmupRisesLinearlyToTheFullRate) {
  ScheduleOptions options = Make("constant");
  options.warmup = 10;
  EXPECT_DOUBLE_EQ(LearningRate(options, 0), 0.01);
  EXPECT_DOUBLE_EQ(LearningRate(options, 4), 0.05);
  EXPECT_DOUBLE_EQ(LearningRate(options, 9), 0.1);
  EXPECT_DOUBLE_EQ(LearningRate(options, 10), 0.1);
}

TEST(ScheduleTest, LinearFallsToTheFinalFactor) {
  ScheduleOptions options = Make("linear");
  options.final_factor = 0.2;
  EXPECT_DOUBLE_EQ(LearningRate(options, 0), 0.1);
  EXPECT_DOUBLE_EQ(LearningRate(options, 50), 0.06);
  EXPECT_DOUBLE_EQ(LearningRate(options, 100), 0.02);
  EXPECT_DOUBLE_EQ(LearningRate(options, 500), 0.02);
}

TEST(ScheduleTest, CosineFallsSlowlyAtBothEnds) {
  const ScheduleOptions options = Make("cosine");
  EXPECT_DOUBLE_EQ(LearningRate(options, 0), 0.1);
  EXPECT_NEAR(LearningRate(options, 50), 0.05, 1e-12);
  EXPECT_GT(LearningRate(options, 10), 0.095);
  EXPECT_LT(LearningRate(options, 90), 0.005);
}

TEST(ScheduleTest, ExponentialIsThatOfTripletReid) {
  // Constant 3e-4 to step 15 000, then down to a thousandth at 25 000.
  ScheduleOptions options = Make("exponential");
  options.rate = 3e-4;
  options.decay_start = 15000;
  options.steps = 25000;
  EXPECT_DOUBLE_EQ(LearningRate(options, 14999), 3e-4);
  EXPECT_NEAR(LearningRate(options, 20000), 3e-4 * 0.0316227766, 1e-12);
  EXPECT_NEAR(LearningRate(options, 25000), 3e-7, 1e-15);
}

TEST(ScheduleTest, StepDropsAtMultiples) {
  ScheduleOptions options = Make("step");
  options.step_every = 30;
  EXPECT_DOUBLE_EQ(LearningRate(options, 29), 0.1);
  EXPECT_NEAR(LearningRate(options, 30), 0.01, 1e-12);
  EXPECT_NEAR(LearningRate(options, 60), 0.001, 1e-12);
}

TEST(ScheduleTest, DecayWaitsForTheWarmup) {
  ScheduleOptions options = Make("linear");
  options.warmup = 20;
  EXPECT_DOUBLE_EQ(LearningRate(options, 19), 0.1);
  EXPECT_DOUBLE_EQ(LearningRate(options, 20), 0.1);
  EXPECT_NEAR(LearningRate(options, 60), 0.05, 1e-12);
}

TEST(ScheduleTest, EveryNameIsAccepted) {
  for (const std::string& name : ScheduleNames()) {
    ScheduleOptions options = Make(name);
    options.step_every = 10;
    EXPECT_TRUE(CheckSchedule(options).ok()) << name;
  }
}

TEST(ScheduleTest, WrongSettingsAreNamed) {
  auto message = [](auto change) {
    ScheduleOptions options = Make("linear");
    change(options);
    return CheckSchedule(options).ToString();
  };
  EXPECT_THAT(message([](ScheduleOptions& o) { o.name = "poly"; }), HasSubstr("cosine"));
  EXPECT_THAT(message([](ScheduleOptions& o) { o.rate = 0; }), HasSubstr("learning rate"));
  EXPECT_THAT(message([](ScheduleOptions& o) { o.steps = 0; }), HasSubstr("number of steps"));
  EXPECT_THAT(message([](ScheduleOptions& o) { o.final_factor = 2; }), HasSubstr("final factor"));
  EXPECT_THAT(message([](ScheduleOptions& o) { o.name = "step"; }), HasSubstr("between two drops"));
}

}  // namespace
}  // namespace doppel
