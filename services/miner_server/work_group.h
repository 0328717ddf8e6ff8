#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/base/executor.h"
#include "common/io/file_system.h"
#include "common/io/record_file.h"
#include "doppel/v1/batches.pb.h"
#include "services/miner_server/work_group_state.h"

namespace doppel {

// The trainers that share one plan dynamically: each cursor is leased to one stream, and again to another
// when that one ends or lets the lease run out, until it is acknowledged. Acknowledgements are journalled and
// synced before they are confirmed, so a cursor is delivered at least once and acknowledged exactly once,
// whoever dies. Thread-safe. No callback is called with a lock held.
class WorkGroup : public std::enable_shared_from_this<WorkGroup> {
 public:
  using Confirm = std::function<void(const absl::StatusOr<v1::Acknowledged>&)>;

  // Opens the journal at `path`, or starts it with `wanted`. FAILED_PRECONDITION: the group was opened for
  // another plan, seed or generation. `fs` and `executor` are not owned.
  static absl::StatusOr<std::shared_ptr<WorkGroup>> Open(FileSystem& fs, const std::string& path,
                                                         const v1::WorkGroupOpened& wanted,
                                                         Executor* executor);
  absl::Status CheckSame(const v1::WorkGroupOpened& wanted) const;

  enum class Outcome { kLeased, kWait, kNothingLeft };
  struct Lease {
    Outcome outcome = Outcome::kWait;
    uint64_t cursor = 0;
  };
  // The lowest cursor that nobody works on. kWait: all are leased; `wake` is called, once, when it is worth
  // asking again. kNothingLeft: the end is reached and no one but this stream holds a lease.
  Lease TakeLease(uint64_t stream, absl::Duration duration, absl::Time now, std::function<void()> wake);

  // The leases of this stream go back; for streams that have died.
  void Release(uint64_t stream);

  // INVALID_ARGUMENT: that cursor was never given out. Else `confirm` is called, on the executor: with the
  // answer, or with the error of the journal.
  absl::Status Acknowledge(uint64_t cursor, Confirm confirm);

  uint64_t acknowledged_below() const;

  // Takes back what has run out. Returns when to call again: the next lease that someone waits for.
  absl::Time ExpireLeases(absl::Time now);

 private:
  struct Held {
    uint64_t stream = 0;
    absl::Time expires;
  };
  struct Pending {
    uint64_t cursor = 0;
    Confirm confirm;
  };

  WorkGroup(FileSystem& fs, std::string path, Executor* executor)
      : fs_(fs), path_(std::move(path)), executor_(executor) {}

  absl::Status Load(const v1::WorkGroupOpened& wanted);
  absl::Status Rewrite() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Write(const v1::WorkGroupUpdate& update);
  void GiveBack(uint64_t cursor) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ExpireLocked(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool OnlyHolder(uint64_t stream) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::vector<std::function<void()>> TakeWaiters() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Lease TakeLocked(uint64_t stream, absl::Duration duration, absl::Time now, std::function<void()> wake,
                   bool* flush) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // True: the caller is to call ScheduleFlush, without the lock.
  bool WantsFlush() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !std::exchange(flushing_, true); }
  void ScheduleFlush() ABSL_LOCKS_EXCLUDED(mutex_) {
    executor_->Schedule([self = shared_from_this()] { self->Flush(); });
  }
  // On the executor, one at a time: journals what is pending until nothing is.
  void Flush() ABSL_LOCKS_EXCLUDED(mutex_);

  FileSystem& fs_;
  const std::string path_;
  Executor* const executor_;

  mutable absl::Mutex mutex_;
  WorkGroupState state_ ABSL_GUARDED_BY(mutex_);
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);  // of the journal: nothing is certain any more
  uint64_t next_ ABSL_GUARDED_BY(mutex_) = 0;     // never leased since the start
  std::set<uint64_t> returned_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, Held> leases_ ABSL_GUARDED_BY(mutex_);
  std::set<std::pair<absl::Time, uint64_t>> expiries_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::function<void()>> waiters_ ABSL_GUARDED_BY(mutex_);
  std::vector<Pending> pending_ ABSL_GUARDED_BY(mutex_);
  std::set<uint64_t> acknowledging_
      ABSL_GUARDED_BY(mutex_);                         // not journalled yet, and not to be leased again
  uint64_t wanted_below_ ABSL_GUARDED_BY(mutex_) = 0;  // to be journalled as handed out
  bool flushing_ ABSL_GUARDED_BY(mutex_) = false;

  std::unique_ptr<RecordWriter> journal_;  // the flush's alone, once open
  uint64_t records_ = 0;                   // in the journal; the same
};

}  // namespace doppel
