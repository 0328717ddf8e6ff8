#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/io/file_system.h"

namespace doppel {
namespace {

absl::Status ErrnoStatus(absl::string_view what, const std::string& path, int error) {
  std::string message = absl::StrCat(what, " ", path);
  if (error == ENOSPC || error == EDQUOT) absl::StrAppend(&message, " (free some space there and retry)");
  return absl::ErrnoToStatus(error, message);
}

// A descriptor that is closed whatever happens.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

int OpenRetrying(const std::string& path, int flags) {
  int fd;
  do {
    fd = open(path.c_str(), flags | O_CLOEXEC, 0666);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

class PosixWritableFile : public WritableFile {
 public:
  PosixWritableFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  absl::Status Append(absl::string_view data) override {
    if (fd_.get() < 0) return Closed();
    while (!data.empty()) {
      const ssize_t written = write(fd_.get(), data.data(), data.size());
      if (written < 0) {
        if (errno == EINTR) continue;
        return ErrnoStatus("cannot write to", path_, errno);
      }
      data.remove_prefix(static_cast<size_t>(written));
    }
    return absl::OkStatus();
  }
  absl::Status Sync() override {
    if (fd_.get() < 0) return Closed();
    if (fdatasync(fd_.get()) != 0) return ErrnoStatus("cannot sync", path_, errno);
    return absl::OkStatus();
  }
  absl::Status Close() override {
    if (fd_.get() < 0) return absl::OkStatus();
    if (close(fd_.Release()) != 0) return ErrnoStatus("cannot close", path_, errno);
    return absl::OkStatus();
  }

 private:
  absl::Status Closed() const { return absl::FailedPreconditionError(absl::StrCat(path_, " is closed")); }
  const std::string path_;
  Descriptor fd_;
};

class PosixFileSystemImpl : public FileSystem {
 public:
  absl::StatusOr<std::string> ReadFile(const std::string& path) override {
    Descriptor fd(OpenRetrying(path, O_RDONLY));
    if (fd.get() < 0) return ErrnoStatus("cannot open", path, errno);
    struct stat info {};
    if (fstat(fd.get(), &info) != 0) return ErrnoStatus("cannot stat", path, errno);
    std::string data;
    data.resize(static_cast<size_t>(std::max<off_t>(info.st_size, 0)));
    size_t done = 0;
    while (true) {
      if (done == data.size()) data.resize(done + 4096);  // also shows that the file has ended
      const ssize_t n = read(fd.get(), &data[done], data.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ErrnoStatus("cannot read", path, errno);
      if (n == 0) break;
      done += static_cast<size_t>(n);
    }
    data.resize(done);
    return data;
  }

  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override {
    return OpenForWriting(path, O_TRUNC);
  }
  absl::StatusOr<std::unique_ptr<WritableFile>> OpenAppend(const std::string& path) override {
    return OpenForWriting(path, O_APPEND);
  }

  absl::Status Rename(const std::string& from, const std::string& to) override {
    if (rename(from.c_str(), to.c_str()) != 0) {
      return ErrnoStatus(absl::StrCat("cannot rename ", from, " to"), to, errno);
    }
    return absl::OkStatus();
  }

  absl::Status LinkOrCopy(const std::string& from, const std::string& to) override {
    if (link(from.c_str(), to.c_str()) == 0) return absl::OkStatus();
    if (errno == EPERM || errno == EOPNOTSUPP || errno == EMLINK || errno == EXDEV) {
      return FileSystem::LinkOrCopy(from, to);
    }
    return ErrnoStatus(absl::StrCat("cannot link ", from, " to"), to, errno);
  }

  absl::Status SyncDirectory(const std::string& dir) override {
    Descriptor fd(OpenRetrying(dir, O_RDONLY | O_DIRECTORY));
    if (fd.get() < 0) return ErrnoStatus("cannot open folder", dir, errno);
    // Some network file systems cannot sync a folder, and say EINVAL: their renames are durable as they are.
    if (fsync(fd.get()) != 0 && errno != EINVAL) return ErrnoStatus("cannot sync folder", dir, errno);
    return absl::OkStatus();
  }

  absl::Status MakeDirectories(const std::string& dir) override {
    struct stat info {};
    if (stat(dir.c_str(), &info) == 0) {
      if (S_ISDIR(info.st_mode)) return absl::OkStatus();
      return absl::AlreadyExistsError(
          absl::StrCat("cannot make folder ", dir, ": there is a file of that name"));
    }
    if (errno != ENOENT) return ErrnoStatus("cannot make folder", dir, errno);
    const std::string parent = DirectoryOf(dir);
    if (parent != dir) RETURN_IF_ERROR(MakeDirectories(parent));
    if (mkdir(dir.c_str(), 0777) != 0 && errno != EEXIST)
      return ErrnoStatus("cannot make folder", dir, errno);
    return SyncDirectory(parent);
  }

  absl::Status Remove(const std::string& path) override {
    if (remove(path.c_str()) != 0) return ErrnoStatus("cannot remove", path, errno);
    return absl::OkStatus();
  }

  absl::Status RemoveRecursively(const std::string& path) override {
    struct stat info {};
    if (lstat(path.c_str(), &info) != 0) {
      return errno == ENOENT ? absl::OkStatus() : ErrnoStatus("cannot remove", path, errno);
    }
    if (S_ISDIR(info.st_mode)) {
      ASSIGN_OR_RETURN(const std::vector<std::string> names, List(path));
      for (const std::string& name : names) RETURN_IF_ERROR(RemoveRecursively(absl::StrCat(path, "/", name)));
    }
    return Remove(path);
  }

  absl::Status Truncate(const std::string& path, uint64_t size) override {
    if (truncate(path.c_str(), static_cast<off_t>(size)) != 0)
      return ErrnoStatus("cannot truncate", path, errno);
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<std::string>> List(const std::string& dir) override {
    DIR* handle = opendir(dir.c_str());
    if (handle == nullptr) return ErrnoStatus("cannot list", dir, errno);
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = readdir(handle)) {
      std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(std::move(name));
    }
    const int error = errno;
    closedir(handle);
    if (error != 0) return ErrnoStatus("cannot list", dir, error);
    std::sort(names.begin(), names.end());
    return names;
  }

  bool Exists(const std::string& path) override {
    struct stat info {};
    return stat(path.c_str(), &info) == 0;
  }

  absl::StatusOr<uint64_t> Size(const std::string& path) override {
    struct stat info {};
    if (stat(path.c_str(), &info) != 0) return ErrnoStatus("cannot stat", path, errno);
    return static_cast<uint64_t>(info.st_size);
  }

 private:
  static absl::StatusOr<std::unique_ptr<WritableFile>> OpenForWriting(const std::string& path, int flag) {
    const int fd = OpenRetrying(path, O_WRONLY | O_CREAT | flag);
    if (fd < 0) return ErrnoStatus("cannot open for writing", path, errno);
    return std::unique_ptr<WritableFile>(std::make_unique<PosixWritableFile>(path, fd));
  }
};

}  // namespace

absl::Status FileSystem::LinkOrCopy(const std::string& from, const std::string& to) {
  if (Exists(to)) return absl::AlreadyExistsError(absl::StrCat("cannot copy ", from, " to ", to));
  ASSIGN_OR_RETURN(const std::string data, ReadFile(from));
  ASSIGN_OR_RETURN(const std::unique_ptr<WritableFile> file, Create(to));
  RETURN_IF_ERROR(file->Append(data));
  RETURN_IF_ERROR(file->Sync());
  return file->Close();
}

FileSystem& PosixFileSystem() {
  static PosixFileSystemImpl file_system;
  return file_system;
}

std::string DirectoryOf(absl::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  if (slash == absl::string_view::npos) return ".";
  path = path.substr(0, slash);
  while (!path.empty() && path.back() == '/') path.remove_suffix(1);
  return path.empty() ? "/" : std::string(path);
}

}  // namespace doppel
