#include "services/security/audit_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"

namespace doppel {

std::string AuditLine(const AuditRecord& record) {
  nlohmann::ordered_json line;
  line["time"] = absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", record.time, absl::UTCTimeZone());
  line["who"] = record.who;
  line["role"] = record.role;
  line["from"] = record.from;
  line["method"] = record.method;
  line["request"] = record.request;
  line["code"] = record.code;
  if (!record.error.empty()) line["error"] = record.error;
  line["seconds"] = record.seconds;
  // What a peer sent need not be UTF-8.
  return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

absl::StatusOr<std::unique_ptr<AuditLog>> AuditLog::Open(AuditLogOptions options) {
  std::unique_ptr<AuditLog> log(new AuditLog(std::move(options)));
  absl::MutexLock lock(&log->mutex_);
  RETURN_IF_ERROR(log->OpenFile());
  return log;
}

AuditLog::~AuditLog() {
  absl::MutexLock lock(&mutex_);
  if (file_ >= 0) close(file_);
}

absl::Status AuditLog::OpenFile() {
  if (file_ >= 0) close(file_);
  file_ = open(options_.path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  struct stat info = {};
  if (file_ < 0 || fstat(file_, &info) != 0) {
    return absl::UnavailableError(
        absl::StrCat("audit_log ", options_.path, ": cannot be opened: ", std::strerror(errno)));
  }
  inode_ = info.st_ino;
  size_ = static_cast<uint64_t>(info.st_size);
  return absl::OkStatus();
}

void AuditLog::Rotate() {
  for (uint32_t i = options_.files; i > 0; --i) {
    const std::string from = i == 1 ? options_.path : absl::StrCat(options_.path, ".", i - 1);
    (void)std::rename(from.c_str(), absl::StrCat(options_.path, ".", i).c_str());
  }
  if (options_.files == 0) (void)unlink(options_.path.c_str());
}

absl::Status AuditLog::Append(absl::string_view line) {
  struct stat info = {};
  const bool moved = stat(options_.path.c_str(), &info) != 0 || info.st_ino != inode_;
  if (moved || file_ < 0) {
    RETURN_IF_ERROR(OpenFile());
  } else if (options_.max_bytes > 0 && size_ > 0 && size_ + line.size() > options_.max_bytes) {
    Rotate();
    RETURN_IF_ERROR(OpenFile());
  }
  // One call: lines of several processes do not mix.
  const ssize_t written = write(file_, line.data(), line.size());
  if (written != static_cast<ssize_t>(line.size())) {
    return absl::UnavailableError(absl::StrCat("audit_log ", options_.path, ": ", std::strerror(errno)));
  }
  size_ += line.size();
  return absl::OkStatus();
}

void AuditLog::Write(const AuditRecord& record) {
  const std::string line = AuditLine(record);
  absl::MutexLock lock(&mutex_);
  const absl::Status status = Append(line);
  if (!status.ok()) DOPPEL_LOG(kError, status.message(), ": ", line);
}

}  // namespace doppel
