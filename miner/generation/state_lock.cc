#include "miner/generation/state_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace doppel {
namespace {

// For the message only: who locked it wrote his process id.
std::string ReadHolder(int fd) {
  char text[32];
  const ssize_t n = pread(fd, text, sizeof text, 0);
  if (n <= 0) return "another process";
  return absl::StrCat("process ", std::string(absl::StripAsciiWhitespace(absl::string_view(text, n))));
}

}  // namespace

absl::StatusOr<std::unique_ptr<StateLock>> StateLock::Acquire(const std::string& directory) {
  const std::string path = absl::StrCat(directory, "/LOCK");
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) {
    return absl::PermissionDeniedError(absl::StrCat(path, ": cannot be opened: ", std::strerror(errno)));
  }
  std::unique_ptr<StateLock> lock(new StateLock(fd));
  // Held looks at it for a moment, which is no reason to give up.
  int attempts = 3;
  while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno == EWOULDBLOCK && --attempts > 0) {
      usleep(10000);
      continue;
    }
    if (errno == EWOULDBLOCK) {
      return absl::FailedPreconditionError(
          absl::StrCat(directory, ": in use by ", ReadHolder(fd),
                       "; stop that miner or give this one another state directory"));
    }
    return absl::UnavailableError(absl::StrCat(path, ": cannot be locked: ", std::strerror(errno)));
  }
  const std::string holder = absl::StrCat(getpid(), "\n");
  if (ftruncate(fd, 0) != 0 || pwrite(fd, holder.data(), holder.size(), 0) < 0) {
    return absl::UnavailableError(absl::StrCat(path, ": cannot be written: ", std::strerror(errno)));
  }
  return lock;
}

bool StateLock::Held(const std::string& directory) {
  const int fd = open(absl::StrCat(directory, "/LOCK").c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  // Shared, and for this moment only: Acquire asks again.
  const bool held = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  close(fd);
  return held;
}

StateLock::~StateLock() { close(fd_); }

}  // namespace doppel
