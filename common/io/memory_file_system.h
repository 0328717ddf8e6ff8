#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "common/io/file_system.h"

namespace doppel {

// For tests: a tree of files in memory that knows what a crash would leave. File data is durable after Sync
// of the file, names after SyncDirectory of their folder, folders made by MakeDirectories at once. The
// folders "/" and "." (one and the same) are there from the start. Thread-safe.
class InMemoryFileSystem : public FileSystem {
 public:
  InMemoryFileSystem();
  ~InMemoryFileSystem() override;

  // What a power cut does: everything that was not synced is gone. Files that are still open are cut off:
  // appending to them changes nothing that can be seen.
  void DropUnsynced() { DropUnsynced(Survivors::kSynced); }
  enum class Survivors {
    kSynced,
    // Every name is as it was last, but the data of files only as synced: file systems are free to write a
    // rename before the data of the renamed file.
    kNames
  };
  void DropUnsynced(Survivors survivors);

  absl::StatusOr<std::string> ReadFile(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<WritableFile>> OpenAppend(const std::string& path) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status SyncDirectory(const std::string& dir) override;
  absl::Status MakeDirectories(const std::string& dir) override;
  absl::Status Remove(const std::string& path) override;
  absl::Status RemoveRecursively(const std::string& path) override;
  absl::Status Truncate(const std::string& path, uint64_t size) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& dir) override;
  bool Exists(const std::string& path) override;
  absl::StatusOr<uint64_t> Size(const std::string& path) override;

 private:
  struct Node;
  class File;
  using Entries = std::map<std::string, std::shared_ptr<Node>>;

  // nullptr if there is none.
  std::shared_ptr<Node> Find(absl::string_view path) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::shared_ptr<Node>> FindFile(const std::string& path) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::shared_ptr<Node>> FindFolder(const std::string& path) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::unique_ptr<WritableFile>> Open(const std::string& path, bool truncate);
  static std::shared_ptr<Node> Survivor(const Node& node, Survivors survivors);

  mutable absl::Mutex mutex_;
  std::shared_ptr<Node> root_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace doppel
