#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "doppel/v1/mining.pb.h"

namespace doppel {

class StreamReactor;

// 0: no limit.
struct StreamLimits {
  uint32_t max_streams = 0;
  uint32_t max_streams_per_client = 0;
};

// The open streams of one server. Thread-safe. A stream's own lock is never held while calling in here.
class StreamRegistry {
 public:
  explicit StreamRegistry(StreamLimits limits = {}) : limits_(limits) {}
  // Waits for a stream that is about to leave.
  ~StreamRegistry();

  // `client`: whose limit it counts for. UNAVAILABLE while draining, RESOURCE_EXHAUSTED names the limit: the
  // stream is to be refused.
  absl::Status Add(std::shared_ptr<StreamReactor> stream, const std::string& client);
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

  const StreamLimits limits_;
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<std::shared_ptr<StreamReactor>, std::string> streams_
      ABSL_GUARDED_BY(mutex_);  // → client
  absl::flat_hash_map<std::string, uint32_t> by_client_ ABSL_GUARDED_BY(mutex_);
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace doppel
