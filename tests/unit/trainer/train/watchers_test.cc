#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "nlohmann/json.hpp"
#include "trainer/train/early_stop.h"
#include "trainer/train/loss_scaler.h"
#include "trainer/train/starvation_detector.h"
#include "trainer/train/step_record.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

TEST(EarlyStopTest, TheFirstValueIsTheBest) {
  EarlyStop stop({"rank1", 2});
  EXPECT_TRUE(stop.Observe(0, -3));
  EXPECT_EQ(stop.state().best, -3);
  EXPECT_FALSE(stop.exhausted());
}

TEST(EarlyStopTest, StopsAfterSoManyEvaluationsWithoutANewBest) {
  EarlyStop stop({"rank1", 2});
  EXPECT_TRUE(stop.Observe(10, 0.5));
  EXPECT_TRUE(stop.Observe(20, 0.6));
  EXPECT_FALSE(stop.Observe(30, 0.6));  // equal is no better
  EXPECT_FALSE(stop.exhausted());
  EXPECT_FALSE(stop.Observe(40, 0.1));
  EXPECT_TRUE(stop.exhausted());
  EXPECT_EQ(stop.state().best_step, 20U);
}

TEST(EarlyStopTest, ANewBestStartsThePatienceAnew) {
  EarlyStop stop({"rank1", 2});
  for (const double value : {0.5, 0.4, 0.6, 0.5}) stop.Observe(1, value);
  EXPECT_FALSE(stop.exhausted());
  EXPECT_EQ(stop.state().since_best, 1U);
}

TEST(EarlyStopTest, PatienceZeroNeverStops) {
  EarlyStop stop({"rank1", 0});
  for (int i = 0; i < 100; ++i) stop.Observe(1, -i);
  EXPECT_FALSE(stop.exhausted());
}

TEST(EarlyStopTest, NanIsNeverTheBestAndDoesNotBlockOne) {
  EarlyStop stop({"rank1", 3});
  EXPECT_FALSE(stop.Observe(1, kNan));
  EXPECT_TRUE(stop.Observe(2, 0.1));
  EXPECT_FALSE(stop.Observe(3, kNan));
  EXPECT_EQ(stop.state().best, 0.1);
}

TEST(EarlyStopTest, AStateGoesOnElsewhere) {
  EarlyStop one({"rank1", 2});
  one.Observe(1, 0.5);
  one.Observe(2, 0.4);
  EarlyStop other({"rank1", 2});
  other.set_state(one.state());
  EXPECT_FALSE(other.Observe(3, 0.45));
  EXPECT_TRUE(other.exhausted());
}

TEST(LossScalerTest, WithoutScalingTheScaleIsOneForEver) {
  LossScaler scaler;
  EXPECT_FALSE(scaler.enabled());
  scaler.Update(false);
  scaler.Update(true);
  EXPECT_EQ(scaler.scale(), 1);
}

TEST(LossScalerTest, OverflowHalvesAndGoodStepsDouble) {
  LossScaler scaler(1024, 3);
  scaler.Update(true);
  scaler.Update(true);
  scaler.Update(false);
  EXPECT_EQ(scaler.scale(), 512);
  for (int i = 0; i < 2; ++i) scaler.Update(true);
  EXPECT_EQ(scaler.scale(), 512);  // the overflow counted from the beginning again
  scaler.Update(true);
  EXPECT_EQ(scaler.scale(), 1024);
}

TEST(LossScalerTest, NeverBelowOne) {
  LossScaler scaler(2, 3);
  for (int i = 0; i < 5; ++i) scaler.Update(false);
  EXPECT_EQ(scaler.scale(), 1);
}

StepRecord Record(uint64_t step, double active, double wait = 0, bool skipped = false) {
  StepRecord record;
  record.step = step;
  record.statistics.loss.active = active;
  record.statistics.loss.triplets = 10;
  record.statistics.skipped = skipped;
  record.wait_seconds = wait;
  record.step_seconds = 1 - wait;
  return record;
}

StarvationOptions Watch() {
  StarvationOptions options;
  options.active_share = 0.1;
  options.patience = 3;
  options.window = 4;
  options.repeat = 10;
  return options;
}

TEST(StarvationDetectorTest, AHealthyRunIsLeftAlone) {
  StarvationDetector detector(Watch());
  for (uint64_t i = 1; i < 100; ++i) EXPECT_THAT(detector.Observe(Record(i, 0.5, 0.1)), IsEmpty());
}

TEST(StarvationDetectorTest, BatchesThatTeachNothingAreNamedWithWhatToDo) {
  StarvationDetector detector(Watch());
  EXPECT_THAT(detector.Observe(Record(1, 0.05)), IsEmpty());
  EXPECT_THAT(detector.Observe(Record(2, 0.05)), IsEmpty());
  const auto warnings = detector.Observe(Record(3, 0.05));
  ASSERT_THAT(warnings, SizeIs(1));
  EXPECT_THAT(warnings[0], HasSubstr("for 3 steps"));
  EXPECT_THAT(warnings[0], HasSubstr("doppel recluster"));
}

TEST(StarvationDetectorTest, OneGoodStepBreaksTheRun) {
  StarvationDetector detector(Watch());
  for (uint64_t i = 1; i < 50; ++i) {
    EXPECT_THAT(detector.Observe(Record(i, i % 3 == 0 ? 0.5 : 0.0)), IsEmpty());
  }
}

TEST(StarvationDetectorTest, WarningsRepeatButDoNotNag) {
  StarvationDetector detector(Watch());
  int warnings = 0;
  for (uint64_t i = 1; i <= 33; ++i) warnings += static_cast<int>(detector.Observe(Record(i, 0)).size());
  EXPECT_EQ(warnings, 4);  // steps 3, 13, 23, 33
}

TEST(StarvationDetectorTest, WaitingForBatchesIsNamed) {
  StarvationDetector detector(Watch());
  std::vector<std::string> all;
  for (uint64_t i = 1; i <= 4; ++i) {
    for (auto& warning : detector.Observe(Record(i, 0.5, 0.45))) all.push_back(warning);
  }
  ASSERT_THAT(all, SizeIs(1));
  EXPECT_THAT(all[0], HasSubstr("45 %"));
  EXPECT_THAT(all[0], HasSubstr("--decode-threads"));
}

TEST(StarvationDetectorTest, SkippedStepsAreNamed) {
  StarvationDetector detector(Watch());
  const auto warnings = detector.Observe(Record(7, 0, 0, /*skipped=*/true));
  ASSERT_THAT(warnings, SizeIs(1));
  EXPECT_THAT(warnings[0], HasSubstr("step 7 was skipped"));
  EXPECT_THAT(warnings[0], HasSubstr("--clip-norm"));
}

TEST(StarvationDetectorTest, ALossWithoutTripletsDoesNotStarve) {
  StarvationDetector detector(Watch());
  StepRecord record = Record(1, 0);
  record.statistics.loss.triplets = 0;
  for (uint64_t i = 1; i < 20; ++i) {
    record.step = i;
    EXPECT_THAT(detector.Observe(record), IsEmpty());
  }
}

TEST(MergeStatisticsTest, OneBatchStaysAsItIs) {
  LossStatistics part;
  part.loss = 0.125;
  part.d_ap.p50 = 3;
  EXPECT_EQ(MergeStatistics({part}).loss, 0.125);
  EXPECT_EQ(MergeStatistics({part}).d_ap.p50, 3);
  EXPECT_EQ(MergeStatistics({}).triplets, 0);
}

TEST(MergeStatisticsTest, LossesAreAveragedAndSharesWeightedByTriplets) {
  LossStatistics a, b;
  a.loss = 1;
  a.active = 1;
  a.triplets = 30;
  a.d_ap = {0.2, 0.3, 1, 2, 3};
  a.norm = {1, 1, 1, 1, 5};
  b.loss = 3;
  b.active = 0;
  b.triplets = 10;
  b.d_ap = {0.1, 0.3, 2, 2, 2.5};
  b.norm = {0.5, 1, 2, 1, 4};
  const LossStatistics merged = MergeStatistics({a, b});
  EXPECT_DOUBLE_EQ(merged.loss, 2);
  EXPECT_DOUBLE_EQ(merged.active, 0.75);
  EXPECT_EQ(merged.triplets, 40);
  EXPECT_DOUBLE_EQ(merged.d_ap.p0, 0.1);
  EXPECT_DOUBLE_EQ(merged.d_ap.p50, 1.25);
  EXPECT_DOUBLE_EQ(merged.d_ap.p100, 3);
  EXPECT_DOUBLE_EQ(merged.norm.p0, 0.5);
  EXPECT_DOUBLE_EQ(merged.norm.p50, 1.5);
  EXPECT_DOUBLE_EQ(merged.norm.p100, 5);
}

TEST(MergeStatisticsTest, ABatchWithoutTripletsDoesNotPullDistancesToZero) {
  LossStatistics a, b;
  a.triplets = 5;
  a.d_an = {1, 1, 1, 1, 1};
  const LossStatistics merged = MergeStatistics({b, a});
  EXPECT_EQ(merged.d_an.p0, 1);
  EXPECT_EQ(merged.d_an.p50, 1);
}

TEST(StepRecordTest, OrdinaryStepsLookAsTheyAlwaysDid) {
  const auto json = nlohmann::json::parse(ToJsonLine(Record(3, 0.5)));
  EXPECT_EQ(json["step"], 3);
  for (const char* key : {"batches", "skipped", "loss_scale"}) EXPECT_FALSE(json.contains(key)) << key;
}

TEST(StepRecordTest, SaysWhatIsSpecialAndNanIsNull) {
  StepRecord record = Record(3, 0, 0, true);
  record.batches = 4;
  record.statistics.loss.loss = kNan;
  record.statistics.loss_scale = 1024;
  const std::string line = ToJsonLine(record);
  EXPECT_EQ(line.rfind("{\"step\":3,", 0), 0U);
  const auto json = nlohmann::json::parse(line);
  EXPECT_TRUE(json["loss"].is_null());
  EXPECT_EQ(json["batches"], 4);
  EXPECT_EQ(json["skipped"], true);
  EXPECT_EQ(json["loss_scale"], 1024);
}

}  // namespace
}  // namespace doppel
