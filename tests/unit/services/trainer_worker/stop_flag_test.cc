#include "services/trainer_worker/stop_flag.h"

#include <gtest/gtest.h>
#include <signal.h>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

namespace doppel {
namespace {

TEST(StopFlagTest, WakesOnce) {
  StopFlag flag;
  int woken = 0;
  flag.SetWake([&] { ++woken; });
  EXPECT_FALSE(flag.requested());
  flag.Request();
  flag.Request();
  EXPECT_TRUE(flag.requested());
  EXPECT_EQ(woken, 1);
}

TEST(StopFlagTest, WakesAtOnceIfAskedBefore) {
  StopFlag flag;
  flag.Request();
  int woken = 0;
  flag.SetWake([&] { ++woken; });
  EXPECT_EQ(woken, 1);
}

TEST(StopFlagTest, ForgetsAWakeThatIsTakenBack) {
  StopFlag flag;
  int woken = 0;
  flag.SetWake([&] { ++woken; });
  flag.SetWake(nullptr);
  flag.Request();
  EXPECT_EQ(woken, 0);
}

TEST(SignalWatcherTest, ASigtermRequestsAStop) {
  StopFlag flag;
  absl::Notification woken;
  flag.SetWake([&] { woken.Notify(); });
  SignalWatcher watcher(flag);
  ASSERT_EQ(raise(SIGTERM), 0);
  EXPECT_TRUE(woken.WaitForNotificationWithTimeout(absl::Seconds(20)));
  EXPECT_TRUE(flag.requested());
}

TEST(SignalWatcherTest, EndsWithoutASignal) {
  StopFlag flag;
  { SignalWatcher watcher(flag); }
  { SignalWatcher again(flag); }
  EXPECT_FALSE(flag.requested());
}

}  // namespace
}  // namespace doppel
