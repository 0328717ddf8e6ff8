#include "trainer/train/train_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace doppel {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Delivers batches from `cursor` on; the clock moves while one waits.
class FakeSource : public TrainingBatchSource {
 public:
  FakeSource(ManualClock& clock, uint64_t cursor) : clock_(clock), cursor_(cursor) {}
  absl::StatusOr<TrainingBatch> Next() override {
    if (!end.ok() && cursor_ >= end_at) return end;
    clock_.Advance(absl::Milliseconds(250));
    TrainingBatch batch;
    batch.cursor = cursor_;
    cursor_ += stride;
    batch.generation = 4;
    batch.epoch = batch.cursor / 10;
    batch.subspace = 2;
    batch.identities.assign(6, 1);
    return batch;
  }
  void Acknowledge(uint64_t cursor) override { acknowledged.push_back(cursor); }

  absl::Status end;
  uint64_t end_at = 0;
  uint64_t stride = 1;
  std::vector<uint64_t> acknowledged;

 private:
  ManualClock& clock_;
  uint64_t cursor_;
};

class TrainLoopTest : public ::testing::Test {
 protected:
  TrainLoopTest() {
    options_.steps = 6;
    hooks_.step = [this](const TrainingBatch& batch, const StepPart& part) -> absl::StatusOr<StepStatistics> {
      events_.push_back(absl::StrCat("step@", batch.cursor));
      clock_.Advance(absl::Milliseconds(500));
      StepStatistics statistics;
      statistics.loss.loss = 0.5;
      return statistics;
    };
    hooks_.record = [this](const StepRecord& record) {
      records_.push_back(record);
      return absl::OkStatus();
    };
    hooks_.checkpoint = [this](uint64_t step, uint64_t next) {
      events_.push_back(absl::StrCat("save ", step, ">", next));
      return absl::OkStatus();
    };
    hooks_.evaluate = [this](uint64_t step) {
      events_.push_back(absl::StrCat("eval ", step));
      return absl::OkStatus();
    };
  }
  absl::StatusOr<TrainLoopResult> Run(FakeSource& source) {
    return RunTrainLoop(source, options_, hooks_, clock_);
  }

  ManualClock clock_;
  TrainLoopOptions options_;
  TrainLoopHooks hooks_;
  std::vector<std::string> events_;
  std::vector<StepRecord> records_;
};

TEST_F(TrainLoopTest, SharedPlansHaveGapsAndEveryCursorIsAcknowledged) {
  FakeSource source(clock_, 7);
  source.stride = 3;
  options_.first_cursor = 5;
  options_.steps = 2;
  options_.accumulate = 2;
  options_.every_cursor = false;
  const TrainLoopResult result = Run(source).value();
  EXPECT_EQ(result.next_cursor, 17U);
  EXPECT_THAT(source.acknowledged, ElementsAre(7U, 10U, 13U, 16U));
  EXPECT_THAT(events_, ElementsAre("step@7", "step@10", "step@13", "step@16", "save 2>17"));
}

TEST_F(TrainLoopTest, WithoutSharingAGapIsAnError) {
  FakeSource source(clock_, 0);
  source.stride = 2;
  EXPECT_EQ(Run(source).status().code(), absl::StatusCode::kInternal);
}

TEST_F(TrainLoopTest, StepsThenSavesAtTheEnd) {
  FakeSource source(clock_, 0);
  options_.steps = 2;
  const auto result = Run(source);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->steps, 2U);
  EXPECT_EQ(result->next_cursor, 2U);
  EXPECT_FALSE(result->stopped);
  EXPECT_THAT(events_, ElementsAre("step@0", "step@1", "save 2>2"));
  EXPECT_THAT(source.acknowledged, ElementsAre(0U, 1U));
}

TEST_F(TrainLoopTest, EvaluatesAtTheStartInBetweenAndAtTheEndAndBeforeSaving) {
  FakeSource source(clock_, 0);
  options_.steps = 5;
  options_.evaluate_every = 2;
  options_.checkpoint_every = 4;
  ASSERT_TRUE(Run(source).ok());
  EXPECT_THAT(events_, ElementsAre("eval 0", "step@0", "step@1", "eval 2", "step@2", "step@3", "eval 4",
                                   "save 4>4", "step@4", "eval 5", "save 5>5"));
}

TEST_F(TrainLoopTest, ResumesInTheMiddle) {
  FakeSource source(clock_, 104);
  options_.first_step = 4;
  options_.first_cursor = 104;
  options_.evaluate_every = 3;
  ASSERT_TRUE(Run(source).ok());
  EXPECT_THAT(events_, ElementsAre("step@104", "step@105", "eval 6", "save 6>106"));
  EXPECT_EQ(records_[0].step, 5U);
}

TEST_F(TrainLoopTest, RecordsWhatTheBatchAndTheClockSay) {
  FakeSource source(clock_, 11);
  options_.first_cursor = 11;
  options_.steps = 1;
  options_.schedule.rate = 0.25;
  ASSERT_TRUE(Run(source).ok());
  ASSERT_EQ(records_.size(), 1U);
  EXPECT_EQ(records_[0].step, 1U);
  EXPECT_EQ(records_[0].cursor, 11U);
  EXPECT_EQ(records_[0].generation, 4U);
  EXPECT_EQ(records_[0].epoch, 1U);
  EXPECT_EQ(records_[0].subspace, 2);
  EXPECT_EQ(records_[0].learning_rate, 0.25);
  EXPECT_DOUBLE_EQ(records_[0].wait_seconds, 0.25);
  EXPECT_DOUBLE_EQ(records_[0].step_seconds, 0.5);
  EXPECT_DOUBLE_EQ(records_[0].images_per_second, 8);
}

TEST_F(TrainLoopTest, StopSavesAndSaysSo) {
  FakeSource source(clock_, 0);
  hooks_.should_stop = [this] { return records_.size() >= 2; };
  const auto result = Run(source);
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(result->stopped);
  EXPECT_THAT(events_, ElementsAre("step@0", "step@1", "save 2>2"));
}

TEST_F(TrainLoopTest, StopWhileWaitingForABatchIsNoError) {
  FakeSource source(clock_, 0);
  source.end = absl::CancelledError("cancelled");
  source.end_at = 1;
  bool asked_once_more = false;
  hooks_.should_stop = [&] { return records_.size() == 1 && std::exchange(asked_once_more, true); };
  const auto result = Run(source);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->stopped);
  EXPECT_THAT(events_, ElementsAre("step@0", "save 1>1"));
}

TEST_F(TrainLoopTest, ASourceThatFailsIsReportedAfterSaving) {
  FakeSource source(clock_, 0);
  source.end = absl::UnavailableError("no server");
  source.end_at = 3;
  EXPECT_EQ(Run(source).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(events_.back(), "save 3>3");
}

TEST_F(TrainLoopTest, ASourceThatEndsEndsTheRun) {
  FakeSource source(clock_, 0);
  source.end = absl::OutOfRangeError("end");
  source.end_at = 3;
  const auto result = Run(source);
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(result->source_ended);
  EXPECT_EQ(result->steps, 3U);
}

TEST_F(TrainLoopTest, AFailedStepIsNeitherAcknowledgedNorSavedAndSaysWhere) {
  FakeSource source(clock_, 0);
  auto good = hooks_.step;
  hooks_.step = [&](const TrainingBatch& batch, const StepPart& part) -> absl::StatusOr<StepStatistics> {
    if (batch.cursor == 2) return absl::InvalidArgumentError("embeddings are NaN");
    return good(batch, part);
  };
  const absl::Status status = Run(source).status();
  EXPECT_THAT(status.ToString(), HasSubstr("step 3 (generation 4, cursor 2): embeddings are NaN"));
  EXPECT_THAT(source.acknowledged, ElementsAre(0U, 1U));
  EXPECT_THAT(events_, ElementsAre("step@0", "step@1"));
}

TEST_F(TrainLoopTest, ABatchIsAcknowledgedAfterItsRecord) {
  FakeSource source(clock_, 0);
  options_.steps = 1;
  hooks_.record = [&](const StepRecord&) {
    EXPECT_TRUE(source.acknowledged.empty());
    return absl::OkStatus();
  };
  ASSERT_TRUE(Run(source).ok());
  EXPECT_EQ(source.acknowledged.size(), 1U);
}

TEST_F(TrainLoopTest, AGapInTheCursorsIsAnError) {
  FakeSource source(clock_, 5);
  EXPECT_THAT(Run(source).status().ToString(), HasSubstr("cursor 5 where 0 was due"));
}

TEST_F(TrainLoopTest, FailingHooksEndTheRun) {
  FakeSource source(clock_, 0);
  hooks_.record = [](const StepRecord&) { return absl::ResourceExhaustedError("disk full"); };
  EXPECT_THAT(Run(source).status().ToString(), HasSubstr("disk full"));
}

TEST_F(TrainLoopTest, CollapseIsWarnedOf) {
  FakeSource source(clock_, 0);
  options_.collapse.collapsed_loss = 0.3;
  options_.collapse.patience = 4;
  hooks_.step = [](const TrainingBatch&, const StepPart&) -> absl::StatusOr<StepStatistics> {
    StepStatistics statistics;
    statistics.loss.loss = 0.3;
    statistics.loss.triplets = 6;
    return statistics;
  };
  std::vector<std::string> warnings;
  hooks_.warn = [&](const std::string& text) { warnings.push_back(text); };
  ASSERT_TRUE(Run(source).ok());
  EXPECT_EQ(warnings.size(), 1U);
}

TEST_F(TrainLoopTest, AStepOfSeveralBatchesIsOneRecordAndOneAcknowledgement) {
  FakeSource source(clock_, 10);
  options_.first_cursor = 10;
  options_.steps = 2;
  options_.accumulate = 3;
  std::vector<std::string> parts;
  hooks_.step = [&](const TrainingBatch& batch, const StepPart& part) -> absl::StatusOr<StepStatistics> {
    parts.push_back(absl::StrCat(part.steps_done, ":", part.index, "/", part.count, "@", batch.cursor));
    clock_.Advance(absl::Milliseconds(500));
    StepStatistics statistics;
    statistics.loss.loss = static_cast<double>(part.index);
    return statistics;
  };
  const auto result = Run(source);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(parts, ElementsAre("0:0/3@10", "0:1/3@11", "0:2/3@12", "1:0/3@13", "1:1/3@14", "1:2/3@15"));
  EXPECT_THAT(source.acknowledged, ElementsAre(12U, 15U));
  EXPECT_THAT(events_, ElementsAre("save 2>16"));
  ASSERT_EQ(records_.size(), 2U);
  EXPECT_EQ(records_[1].cursor, 13U);
  EXPECT_EQ(records_[1].batches, 3);
  EXPECT_EQ(records_[1].statistics.loss.loss, 2);  // what the last batch returned
  EXPECT_DOUBLE_EQ(records_[1].wait_seconds, 0.75);
  EXPECT_DOUBLE_EQ(records_[1].step_seconds, 1.5);
  EXPECT_DOUBLE_EQ(records_[1].images_per_second, 8);
}

TEST_F(TrainLoopTest, AHalfDoneStepIsForgottenWhenTheRunStops) {
  FakeSource source(clock_, 0);
  options_.accumulate = 2;
  hooks_.should_stop = [this] { return events_.size() == 3; };  // one batch into the second step
  const auto result = Run(source);
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(result->stopped);
  EXPECT_EQ(result->steps, 1U);
  EXPECT_EQ(result->next_cursor, 2U);
  EXPECT_EQ(events_.back(), "save 1>2");
  EXPECT_THAT(source.acknowledged, ElementsAre(1U));
}

TEST_F(TrainLoopTest, AHalfDoneStepIsForgottenWhenTheSourceEnds) {
  FakeSource source(clock_, 0);
  options_.accumulate = 2;
  source.end = absl::OutOfRangeError("end");
  source.end_at = 5;
  const auto result = Run(source);
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(result->source_ended);
  EXPECT_EQ(result->steps, 2U);
  EXPECT_EQ(result->next_cursor, 4U);
}

TEST_F(TrainLoopTest, ReachingTheGoalSavesAndEnds) {
  FakeSource source(clock_, 0);
  options_.evaluate_every = 2;
  hooks_.goal_reached = [this] { return records_.size() >= 4; };
  const auto result = Run(source);
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(result->goal_reached);
  EXPECT_FALSE(result->stopped);
  EXPECT_EQ(result->steps, 4U);
  EXPECT_EQ(events_.back(), "save 4>4");
}

TEST_F(TrainLoopTest, AGoalReachedBeforeIsReachedAtOnce) {
  FakeSource source(clock_, 0);
  options_.first_step = 3;
  hooks_.goal_reached = [] { return true; };
  const auto result = Run(source);
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(result->goal_reached);
  EXPECT_TRUE(events_.empty());
}

TEST_F(TrainLoopTest, StarvationIsWarnedOf) {
  FakeSource source(clock_, 0);
  options_.starvation.window = 3;
  options_.starvation.wait_share = 0.2;  // the fakes wait a third of the time
  std::vector<std::string> warnings;
  hooks_.warn = [&](const std::string& text) { warnings.push_back(text); };
  ASSERT_TRUE(Run(source).ok());
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_THAT(warnings[0], HasSubstr("33 %"));
}

TEST_F(TrainLoopTest, WrongScheduleIsRefusedBeforeTheFirstBatch) {
  FakeSource source(clock_, 0);
  options_.schedule.name = "poly";
  EXPECT_EQ(Run(source).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(events_.empty());
}

}  // namespace
}  // namespace doppel
