#pragma once

#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace doppel {

// A shared immutable value that is replaced whole: readers copy a shared_ptr and never wait for a writer's
// work. Thread-safe. The lock guards the pointer copy alone.
template <typename T>
class PublishedPtr {
 public:
  std::shared_ptr<const T> Get() const {
    absl::MutexLock lock(&mutex_);
    return value_;
  }
  // Returns the value that was there before.
  std::shared_ptr<const T> Publish(std::shared_ptr<const T> value) {
    absl::MutexLock lock(&mutex_);
    std::swap(value, value_);
    return value;
  }

 private:
  mutable absl::Mutex mutex_;
  std::shared_ptr<const T> value_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace doppel
