#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/base/clock.h"
#include "common/io/file_system.h"
#include "common/io/mirrored_log.h"
#include "doppel/v1/cleaning.pb.h"
#include "miner/cleaning/cleaning_state.h"
#include "miner/cleaning/guard_list.h"

namespace doppel {

// The durable CleaningState: CleaningUpdate records in `path`, kept twice (common/io/mirrored_log.h), each
// synced before it is applied and acknowledged. An unfinished record at the end (a crash) is cut off, damage
// of one of the two files mended. Findings that were replaced are left out when the journal is opened the
// next time. Thread-safe.
class CleaningStore {
 public:
  // The file is made with the first update. DATA_LOSS: damage of both copies, other than at their ends.
  static absl::StatusOr<std::unique_ptr<CleaningStore>> Open(FileSystem& fs, std::string path,
                                                             const Clock& clock);

  absl::Status ReplaceFindings(v1::FindingsReplaced findings) ABSL_LOCKS_EXCLUDED(mutex_);
  // All or none. INVALID_ARGUMENT as of CleaningState::Apply.
  absl::StatusOr<std::vector<v1::Decision>> Decide(const std::vector<v1::CleaningSubject>& subjects,
                                                   v1::Decision::Verdict verdict, const std::string& note)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // 0: the last one that holds. Returns the one taken back. NOT_FOUND: there is none.
  absl::StatusOr<v1::Decision> Undo(uint64_t number) ABSL_LOCKS_EXCLUDED(mutex_);

  // A copy: what it was at one moment.
  CleaningState State() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Replays records into `state`. DATA_LOSS names `path` and the first record that does not fit.
  static absl::Status Replay(const std::string& path, const std::vector<std::string>& records,
                             CleaningState& state);

 private:
  CleaningStore(FileSystem& fs, std::string path, const Clock& clock)
      : fs_(fs), path_(std::move(path)), clock_(clock) {}
  absl::Status Load() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status DropOldFindings(std::vector<std::string> records) const;
  absl::Status Record(const v1::CleaningUpdate& update) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  FileSystem& fs_;
  const std::string path_;
  const Clock& clock_;
  mutable absl::Mutex mutex_;
  CleaningState state_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<MirroredLog> log_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace doppel
