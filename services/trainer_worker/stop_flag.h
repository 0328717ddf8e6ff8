#pragma once

#include <functional>
#include <memory>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace doppel {

// A request to stop, and whom to wake for it. Thread-safe.
class StopFlag {
 public:
  void Request();
  bool requested() const;
  // `wake` is called once by Request, or at once if it has been called before; nullptr forgets it. When
  // SetWake returns, the wake before it is not running any more.
  void SetWake(std::function<void()> wake);

 private:
  mutable absl::Mutex mutex_;
  bool requested_ ABSL_GUARDED_BY(mutex_) = false;
  std::function<void()> wake_ ABSL_GUARDED_BY(mutex_);
};

// While it lives, the first SIGTERM or SIGINT requests a stop; the second one kills as usual. One per
// process.
class SignalWatcher {
 public:
  explicit SignalWatcher(StopFlag& flag);
  ~SignalWatcher();
  SignalWatcher(const SignalWatcher&) = delete;
  SignalWatcher& operator=(const SignalWatcher&) = delete;

 private:
  std::thread thread_;
};

}  // namespace doppel
