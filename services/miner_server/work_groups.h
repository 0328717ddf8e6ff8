#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/base/executor.h"
#include "common/io/file_system.h"
#include "doppel/v1/batches.pb.h"
#include "services/miner_server/work_group.h"

namespace doppel {

// The dynamic work groups of one server, each with its journal `directory`/<group>.rec. A thread takes back
// leases that have run out while someone waits for them. Thread-safe.
class WorkGroups {
 public:
  // Empty `directory`: there are no groups. `fs` and `executor` are not owned.
  WorkGroups(FileSystem& fs, std::string directory, Executor* executor);
  ~WorkGroups();

  // Finds the group that `spec` names, or opens it. INVALID_ARGUMENT: not a name; FAILED_PRECONDITION: it has
  // another plan; RESOURCE_EXHAUSTED: too many groups. Touches disks.
  absl::StatusOr<std::shared_ptr<WorkGroup>> Join(const v1::StreamSpec& spec);

  // Never the same twice.
  uint64_t NewStreamId() { return ++stream_ids_; }

  // Someone has begun to wait.
  void Look();

 private:
  bool HasNews() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return look_ || stopping_; }
  void Watch();

  FileSystem& fs_;
  const std::string directory_;
  Executor* const executor_;
  std::atomic<uint64_t> stream_ids_{0};

  absl::Mutex opening_;  // one journal is opened by one
  absl::Mutex mutex_ ABSL_ACQUIRED_AFTER(opening_);
  std::map<std::string, std::shared_ptr<WorkGroup>> groups_ ABSL_GUARDED_BY(mutex_);
  bool look_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread watcher_;
};

}  // namespace doppel
