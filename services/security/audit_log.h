#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace doppel {

struct AuditRecord {
  absl::Time time;
  std::string who;  // empty: nobody we know
  std::string role;
  std::string from;     // address; empty where the transport does not tell
  std::string method;   // "doppel.v1.MiningService/Recluster"
  std::string request;  // in short, without secrets
  std::string code;     // "OK", "PERMISSION_DENIED", …
  std::string error;
  double seconds = 0;  // from its start to its end
};

// One JSON object in one line, with \n.
std::string AuditLine(const AuditRecord& record);

struct AuditLogOptions {
  std::string path;
  uint64_t max_bytes = uint64_t{64} << 20;  // then it becomes PATH.1, that PATH.2, …; 0: never
  uint32_t files = 8;                       // that are kept besides the current one
};

// Appends lines to a file that only its owner may read. A file that was moved away (logrotate) is opened
// anew. What cannot be written goes to the log as an error, so that nothing passes silently. Thread-safe.
class AuditLog {
 public:
  // UNAVAILABLE: the file cannot be opened.
  static absl::StatusOr<std::unique_ptr<AuditLog>> Open(AuditLogOptions options);
  ~AuditLog();

  void Write(const AuditRecord& record);

 private:
  explicit AuditLog(AuditLogOptions options) : options_(std::move(options)) {}
  absl::Status OpenFile() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Rotate() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Append(absl::string_view line) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const AuditLogOptions options_;
  absl::Mutex mutex_;
  int file_ ABSL_GUARDED_BY(mutex_) = -1;
  ino_t inode_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t size_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace doppel
