#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/base/clock.h"
#include "doppel/v1/mining.pb.h"

namespace doppel {

// The last few things that happened, numbered from 1 since the process started. Thread-safe.
class EventLog {
 public:
  // `clock` is not owned.
  explicit EventLog(const Clock* clock) : clock_(clock) {}

  // Fills in sequence and time.
  void Add(v1::WatchResponse event) ABSL_LOCKS_EXCLUDED(mutex_);
  // Those after `sequence` that are still known; none if it is ahead of the last.
  std::vector<v1::WatchResponse> After(uint64_t sequence) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Number of the last event; 0 before the first.
  uint64_t last() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  const Clock* const clock_;
  mutable absl::Mutex mutex_;
  std::deque<v1::WatchResponse> events_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace doppel
