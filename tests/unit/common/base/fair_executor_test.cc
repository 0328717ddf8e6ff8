#include "common/base/fair_executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <string>

#include "absl/synchronization/notification.h"

namespace doppel {
namespace {

// One thread that is kept busy until Go; what is scheduled before that is done in the order of the turns.
// Work takes the time that it says.
class FairExecutorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    executor_ = std::make_unique<FairExecutor>(1, clock_);
    executor_->Schedule(executor_->NewFlow("first"), [this] { go_.WaitForNotification(); });
  }
  void Add(const std::shared_ptr<FairExecutor::Flow>& flow, char name, int count, double seconds) {
    for (int i = 0; i < count; ++i) {
      executor_->Schedule(flow, [this, name, seconds] {
        done_.push_back(name);
        clock_.Advance(absl::Seconds(seconds));
      });
    }
  }
  // Everything that was done, in order.
  std::string Finish() {
    if (!go_.HasBeenNotified()) go_.Notify();
    executor_.reset();
    return done_;
  }
  static size_t Count(absl::string_view done, char name) {
    return std::count(done.begin(), done.end(), name);
  }

  ManualClock clock_;
  absl::Notification go_;
  std::string done_;  // by the one thread
  std::unique_ptr<FairExecutor> executor_;
};

TEST_F(FairExecutorTest, DoesTheWorkOfOneFlowInItsOrder) {
  const auto flow = executor_->NewFlow("a");
  for (char c = 'a'; c <= 'z'; ++c) Add(flow, c, 1, 1);
  EXPECT_EQ(Finish(), "abcdefghijklmnopqrstuvwxyz");
}

TEST_F(FairExecutorTest, WhoAsksForLittleDoesNotWaitBehindWhoAsksForMuch) {
  const auto greedy = executor_->NewFlow("client"), modest = executor_->NewFlow("client");
  Add(greedy, 'G', 100, 1);
  Add(modest, 'm', 10, 0.001);
  const std::string done = Finish();
  // Behind one of the greedy one's, whose cost nobody knew yet.
  EXPECT_EQ(Count(done.substr(0, 12), 'm'), 10u) << done;
}

TEST_F(FairExecutorTest, FlowsGetTheSameTimeNotTheSameNumber) {
  const auto slow = executor_->NewFlow("client"), quick = executor_->NewFlow("client");
  Add(slow, 's', 100, 4);
  Add(quick, 'q', 400, 1);
  const std::string done = Finish().substr(0, 200);
  EXPECT_NEAR(4.0 * Count(done, 's') / Count(done, 'q'), 1, 0.1) << done;
}

TEST_F(FairExecutorTest, ManyFlowsDoNotGiveAClientMore) {
  const auto single = executor_->NewFlow("one");
  Add(single, '1', 100, 1);
  for (int i = 0; i < 50; ++i) Add(executor_->NewFlow("many"), 'M', 10, 1);
  const std::string done = Finish().substr(0, 100);
  EXPECT_NEAR(Count(done, '1'), 50, 3) << done;
}

TEST_F(FairExecutorTest, WhoWasAwayHasSavedNothingUp) {
  const auto first = executor_->NewFlow("a"), second = executor_->NewFlow("b");
  absl::Notification worked;
  Add(first, 'a', 50, 1);
  executor_->Schedule(first, [this, &worked, second, first] {
    Add(second, 'b', 50, 1);
    Add(first, 'a', 50, 1);
    worked.Notify();
  });
  go_.Notify();
  worked.WaitForNotification();
  const std::string done = Finish();
  EXPECT_NEAR(Count(done.substr(50, 40), 'a'), 20, 2) << done;
}

TEST_F(FairExecutorTest, ForgetsClientsThatAreGone) {
  // Only that none of it goes wrong: what is kept is its own business.
  for (int i = 0; i < 1000; ++i) Add(executor_->NewFlow(std::to_string(i)), '.', 1, 0);
  for (int i = 0; i < 1000; ++i) executor_->NewFlow(std::to_string(i));
  EXPECT_EQ(Finish().size(), 1000u);
}

TEST(FairExecutorThreadsTest, DoesEverythingOnceOnManyThreads) {
  std::atomic<int> done{0}, followed{0};
  {
    FairExecutor executor(4);
    for (int i = 0; i < 16; ++i) {
      const auto flow = executor.NewFlow(std::to_string(i % 3));
      for (int j = 0; j < 500; ++j) {
        executor.Schedule(flow, [&done, &followed, &executor, flow] {
          if (++done % 16 == 0) executor.Schedule(flow, [&followed] { ++followed; });
        });
      }
    }
  }
  EXPECT_EQ(done, 8000);
  EXPECT_EQ(followed, 500);
}

}  // namespace
}  // namespace doppel
