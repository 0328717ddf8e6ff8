#include "common/base/executor.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace doppel {
namespace {

class InlineExecutor : public Executor {
 public:
  void Schedule(std::function<void()> work) override { work(); }
};

class ThreadPool : public Executor {
 public:
  explicit ThreadPool(int threads) {
    threads_.reserve(threads);
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
  }
  ~ThreadPool() override {
    {
      absl::MutexLock lock(&mutex_);
      closed_ = true;
    }
    for (std::thread& thread : threads_) thread.join();
  }

  void Schedule(std::function<void()> work) override {
    absl::MutexLock lock(&mutex_);
    queue_.push_back(std::move(work));
  }

 private:
  bool HasWorkOrClosed() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return closed_ || !queue_.empty(); }

  void Run() {
    while (true) {
      std::function<void()> work;
      {
        absl::MutexLock lock(&mutex_, absl::Condition(this, &ThreadPool::HasWorkOrClosed));
        if (queue_.empty()) return;
        work = std::move(queue_.front());
        queue_.pop_front();
      }
      work();
    }
  }

  absl::Mutex mutex_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<Executor> MakeThreadPool(int threads) {
  if (threads <= 0) return std::make_unique<InlineExecutor>();
  return std::make_unique<ThreadPool>(threads);
}

void ParallelFor(int64_t n, int64_t grain, int threads, const std::function<void(int64_t, int64_t)>& body) {
  if (n <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  const int64_t chunks = (n - 1) / grain + 1;
  std::atomic<int64_t> next{0};
  auto work = [&] {
    for (int64_t chunk = next.fetch_add(1); chunk < chunks; chunk = next.fetch_add(1)) {
      const int64_t begin = chunk * grain;
      body(begin, begin + std::min(grain, n - begin));
    }
  };
  std::vector<std::thread> helpers;
  const int64_t wanted = std::min<int64_t>(threads, chunks) - 1;
  if (wanted > 0) helpers.reserve(wanted);
  for (int64_t i = 0; i < wanted; ++i) {
    try {
      helpers.emplace_back(work);
    } catch (const std::system_error&) {
      break;  // no more threads to be had: the ones there are do it all
    }
  }
  work();
  for (std::thread& helper : helpers) helper.join();
}

}  // namespace doppel
