#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "doppel/v1/mining.pb.h"

namespace doppel {

class StreamReactor;

// The open streams of one server. Thread-safe. A stream's own lock is never held while calling in here.
class StreamRegistry {
 public:
  // Waits for a stream that is about to leave.
  ~StreamRegistry();

  // False while draining: the stream is to be refused.
  bool Add(std::shared_ptr<StreamReactor> stream);
  void Remove(const std::shared_ptr<StreamReactor>& stream);

  uint32_t open() const;
  bool draining() const;
  std::vector<v1::StreamInfo> Describe() const;

  // Refuses new streams and tells the open ones to end at their next batch border.
  void Drain();
  // False if some are still open after `timeout`.
  bool WaitUntilEmpty(absl::Duration timeout) const;

 private:
  bool Empty() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return streams_.empty(); }
  std::vector<std::shared_ptr<StreamReactor>> Snapshot() const;

  mutable absl::Mutex mutex_;
  absl::flat_hash_set<std::shared_ptr<StreamReactor>> streams_ ABSL_GUARDED_BY(mutex_);
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace doppel
