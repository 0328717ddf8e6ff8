#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/base/clock.h"

namespace doppel {

// Threads that are shared fairly: while more is asked for than they can do, every client gets the same time
// of them, and within a client every flow (a stream, say). Who asks for less than its share does not wait
// behind those who ask for more. Start-time fair queueing (Goyal, Vin, Cheng 1996) at two levels, by the time
// that work took; what has begun is not interrupted. Thread-safe.
class FairExecutor {
 public:
  class Flow;

  // `threads` >= 1. The destructor finishes what was scheduled and joins. `clock` is not owned.
  explicit FairExecutor(int threads, const Clock& clock = Clock::Steady());
  ~FairExecutor();

  // One that works for `client`; its order is that of Schedule.
  std::shared_ptr<Flow> NewFlow(const std::string& client) ABSL_LOCKS_EXCLUDED(mutex_);
  // Never blocks on `work`.
  void Schedule(const std::shared_ptr<Flow>& flow, std::function<void()> work) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // By the time used, then by who came first.
  using Turn = std::pair<double, uint64_t>;
  template <typename T>
  using Ready = std::map<Turn, std::shared_ptr<T>>;
  struct Client;
  struct Job {
    std::shared_ptr<Flow> flow;
    std::function<void()> work;
    double charged = 0;  // seconds, in advance
  };

  bool HasWorkOrClosed() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return closed_ || !ready_.empty(); }
  void Run();
  Job TakeNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Adds to what a flow and its client have used, and keeps them in order.
  void Charge(Flow& flow, double seconds) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  template <typename T>
  void Enqueue(Ready<T>& ready, const std::shared_ptr<T>& one) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Clock& clock_;
  absl::Mutex mutex_;
  Ready<Client> ready_ ABSL_GUARDED_BY(mutex_);
  double now_ ABSL_GUARDED_BY(mutex_) = 0;  // what the client used whose turn was last
  uint64_t arrivals_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, std::weak_ptr<Client>> clients_ ABSL_GUARDED_BY(mutex_);
  size_t prune_at_ ABSL_GUARDED_BY(mutex_) = 16;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace doppel
