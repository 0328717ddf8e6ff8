#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace doppel {

// A file open for appending. Not thread-safe. The destructor closes without reporting.
class WritableFile {
 public:
  virtual ~WritableFile() = default;
  virtual absl::Status Append(absl::string_view data) = 0;
  // To stable storage.
  virtual absl::Status Sync() = 0;
  virtual absl::Status Close() = 0;
};

// The seam under every durable file of ours (after leveldb's Env). Errors name the path. Thread-safe.
// Image data is not read through it: that is memory-mapped (mapped_file.h).
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual absl::StatusOr<std::string> ReadFile(const std::string& path) = 0;
  // Truncates.
  virtual absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) = 0;
  virtual absl::StatusOr<std::unique_ptr<WritableFile>> OpenAppend(const std::string& path) = 0;
  // Files and directories; replaces a file, or an empty directory, that is there. Durable after
  // SyncDirectory.
  virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;
  // A second name for a file that is not written any more, or a synced copy of it where the file system has
  // no such names. ALREADY_EXISTS: `to` is there. Durable after SyncDirectory.
  virtual absl::Status LinkOrCopy(const std::string& from, const std::string& to);
  // Makes names in `dir` durable.
  virtual absl::Status SyncDirectory(const std::string& dir) = 0;
  // With all parents; those made are durable on return. Fine if it is there.
  virtual absl::Status MakeDirectories(const std::string& dir) = 0;
  // A file or an empty directory; NOT_FOUND if there is none.
  virtual absl::Status Remove(const std::string& path) = 0;
  // Fine if there is none.
  virtual absl::Status RemoveRecursively(const std::string& path) = 0;
  virtual absl::Status Truncate(const std::string& path, uint64_t size) = 0;
  // Names only, sorted.
  virtual absl::StatusOr<std::vector<std::string>> List(const std::string& dir) = 0;
  virtual bool Exists(const std::string& path) = 0;
  virtual absl::StatusOr<uint64_t> Size(const std::string& path) = 0;
};

// The real one, process-wide.
FileSystem& PosixFileSystem();
// For tests: everything in memory (memory_file_system.h has the class, which can also lose what was not
// synced).
std::unique_ptr<FileSystem> MakeInMemoryFileSystem();

// For tests of recovery: passes calls on to `base` (not owned) and fails from, or at, the i-th mutating call.
class FaultInjectingFileSystem;  // fault_file_system.h

// "a/b/c" → "a/b", "c" → ".", "/c" → "/".
std::string DirectoryOf(absl::string_view path);

}  // namespace doppel
