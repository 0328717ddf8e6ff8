#pragma once

#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace doppel {

// A token bucket for each client. Forgets those that have been quiet for long enough to be full again, so
// memory follows the number of busy ones. Thread-safe.
class RateLimiter {
 public:
  // per_second ≤ 0: no limit.
  RateLimiter(double per_second, double burst) : per_second_(per_second), burst_(burst) {}

  // False: this one is too many.
  bool Allow(const std::string& client, absl::Time now);
  double per_second() const { return per_second_; }

 private:
  struct Bucket {
    double left;
    absl::Time filled;
  };

  void ForgetTheQuiet(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const double per_second_;
  const double burst_;
  absl::Mutex mutex_;
  absl::flat_hash_map<std::string, Bucket> buckets_ ABSL_GUARDED_BY(mutex_);
  size_t forget_at_ ABSL_GUARDED_BY(mutex_) = 1024;
};

}  // namespace doppel
