#include "common/base/executor.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"

namespace doppel {
namespace {

// Blocks until `parties` threads have arrived.
class Meeting {
 public:
  explicit Meeting(int parties) : missing_(parties) {}
  void Arrive() {
    absl::MutexLock lock(&mutex_);
    --missing_;
    mutex_.Await(absl::Condition(
        +[](int* missing) { return *missing <= 0; }, &missing_));
  }

 private:
  absl::Mutex mutex_;
  int missing_ ABSL_GUARDED_BY(mutex_);
};

TEST(ThreadPoolTest, ZeroThreadsRunInline) {
  const std::unique_ptr<Executor> executor = MakeThreadPool(0);
  std::thread::id ran;
  executor->Schedule([&] { ran = std::this_thread::get_id(); });
  EXPECT_EQ(ran, std::this_thread::get_id());
}

TEST(ThreadPoolTest, RunsOnOtherThreads) {
  absl::Notification done;
  std::thread::id ran;
  const std::unique_ptr<Executor> executor = MakeThreadPool(1);
  executor->Schedule([&] {
    ran = std::this_thread::get_id();
    done.Notify();
  });
  done.WaitForNotification();
  EXPECT_NE(ran, std::this_thread::get_id());
}

TEST(ThreadPoolTest, DestructorFinishesWhatWasScheduled) {
  std::atomic<int> count{0};
  {
    const std::unique_ptr<Executor> executor = MakeThreadPool(3);
    for (int i = 0; i < 1000; ++i) executor->Schedule([&] { ++count; });
  }
  EXPECT_EQ(count.load(), 1000);
}

TEST(ThreadPoolTest, WorkMaySchedule) {
  absl::BlockingCounter pending(2);
  const std::unique_ptr<Executor> executor = MakeThreadPool(1);
  executor->Schedule([&] {
    executor->Schedule([&] { pending.DecrementCount(); });
    pending.DecrementCount();
  });
  pending.Wait();
}

TEST(ThreadPoolTest, ThreadsRunAtTheSameTime) {
  // Each waits for the other: one thread alone would hang.
  Meeting both(2);
  const std::unique_ptr<Executor> executor = MakeThreadPool(2);
  for (int i = 0; i < 2; ++i) {
    executor->Schedule([&] { both.Arrive(); });
  }
}

using Ranges = std::set<std::pair<int64_t, int64_t>>;

Ranges ChunksOf(int64_t n, int64_t grain, int threads) {
  std::mutex mutex;
  Ranges ranges;
  ParallelFor(n, grain, threads, [&](int64_t begin, int64_t end) {
    const std::lock_guard<std::mutex> lock(mutex);
    ranges.emplace(begin, end);
  });
  return ranges;
}

TEST(ParallelForTest, NothingForNothing) { EXPECT_TRUE(ChunksOf(0, 4, 2).empty()); }

TEST(ParallelForTest, ChunksAreDisjointAndCoverTheRange) {
  EXPECT_EQ(ChunksOf(10, 4, 3), (Ranges{{0, 4}, {4, 8}, {8, 10}}));
}

TEST(ParallelForTest, ChunkBordersDoNotDependOnThreads) {
  for (const int threads : {0, 1, 2, 7}) EXPECT_EQ(ChunksOf(1001, 13, threads), ChunksOf(1001, 13, 1));
}

TEST(ParallelForTest, EveryIndexOnce) {
  std::vector<std::atomic<int>> visits(5000);
  ParallelFor(5000, 7, 4, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) ++visits[i];
  });
  for (const auto& count : visits) ASSERT_EQ(count.load(), 1);
}

TEST(ParallelForTest, OneThreadIsTheCallers) {
  const std::thread::id self = std::this_thread::get_id();
  ParallelFor(100, 10, 1, [&](int64_t, int64_t) { EXPECT_EQ(std::this_thread::get_id(), self); });
}

TEST(ParallelForTest, UsesSeveralThreads) {
  Meeting both(2);
  ParallelFor(2, 1, 2, [&](int64_t, int64_t) { both.Arrive(); });
}

TEST(ParallelForTest, GrainBelowOneIsOne) { EXPECT_EQ(ChunksOf(3, 0, 1).size(), 3U); }

}  // namespace
}  // namespace doppel
