#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "common/io/file_system.h"

namespace doppel {

// For tests of recovery: counts the mutating calls (Create, OpenAppend, Append, Sync, Close, Rename,
// SyncDirectory, MakeDirectories, Remove, RemoveRecursively, Truncate), passes them on to `base` (not owned),
// and fails some of them as a broken or full disk would. A test runs its scenario once to learn calls(), then
// once per call with a fault there, and checks what is left: of `base`, or of an InMemoryFileSystem after
// DropUnsynced. Reads are never failed. Thread-safe.
class FaultInjectingFileSystem : public FileSystem {
 public:
  explicit FaultInjectingFileSystem(FileSystem& base) : base_(base) {}

  enum class Error { kIo, kNoSpace };
  enum class Lasting {
    kOnce,    // that call alone
    kForGood  // that call and all after it: the process might as well be dead
  };
  struct Fault {
    uint64_t call = 0;  // the first call that fails, counted from 0 since construction
    Error error = Error::kIo;
    Lasting lasting = Lasting::kOnce;
    // A failing Append writes this share of its bytes first.
    double short_write = 0;
  };
  void Inject(const Fault& fault);
  void Clear();
  // Mutating calls so far, failed ones included.
  uint64_t calls() const;

  absl::StatusOr<std::string> ReadFile(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<WritableFile>> OpenAppend(const std::string& path) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status LinkOrCopy(const std::string& from, const std::string& to) override;
  absl::Status SyncDirectory(const std::string& dir) override;
  absl::Status MakeDirectories(const std::string& dir) override;
  absl::Status Remove(const std::string& path) override;
  absl::Status RemoveRecursively(const std::string& path) override;
  absl::Status Truncate(const std::string& path, uint64_t size) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& dir) override;
  bool Exists(const std::string& path) override;
  absl::StatusOr<uint64_t> Size(const std::string& path) override;

 private:
  class File;
  // Counts a call; an error if it is to fail. short_write, if given, is set to the share to write
  // nevertheless.
  absl::Status Count(absl::string_view what, const std::string& path, double* short_write = nullptr);

  FileSystem& base_;
  mutable absl::Mutex mutex_;
  uint64_t calls_ ABSL_GUARDED_BY(mutex_) = 0;
  bool armed_ ABSL_GUARDED_BY(mutex_) = false;
  Fault fault_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace doppel
