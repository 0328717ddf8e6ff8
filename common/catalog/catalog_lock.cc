#include "common/catalog/catalog_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog_writer.h"
#include "common/io/file_system.h"

namespace doppel {

absl::StatusOr<std::unique_ptr<CatalogLock>> CatalogLock::Take(const std::string& target) {
  const std::string directory = CatalogDirectory(target);
  const std::string path = absl::StrCat(directory, ".lock");
  RETURN_IF_ERROR(PosixFileSystem().MakeDirectories(DirectoryOf(directory)));
  while (true) {
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) return absl::UnavailableError(absl::StrCat("cannot open ", path, ": ", std::strerror(errno)));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
      const int error = errno;
      close(fd);
      if (error != EWOULDBLOCK) {
        return absl::UnavailableError(absl::StrCat("cannot lock ", path, ": ", std::strerror(error)));
      }
      return absl::AbortedError(absl::StrCat("another process is writing ", directory,
                                             ": wait for its end, or name another directory"));
    }
    // Whoever held it before may have removed this file after it was opened here.
    struct stat held {
    }, named{};
    if (fstat(fd, &held) == 0 && stat(path.c_str(), &named) == 0 && held.st_ino == named.st_ino) {
      return std::unique_ptr<CatalogLock>(new CatalogLock(path, fd));
    }
    close(fd);
  }
}

CatalogLock::~CatalogLock() {
  unlink(path_.c_str());
  close(fd_);
}

}  // namespace doppel
