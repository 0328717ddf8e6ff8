#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/io/memory_file_system.h"

namespace doppel {

// The real file system below one folder, and beside it a twin in memory that knows what has been synced: so a
// power cut can be played on real files, which code under test may map. Files that came there by other ways
// (a library that writes by itself) count as not synced until someone syncs them through here. Thread-safe.
class PowerCutFileSystem : public FileSystem {
 public:
  // What lies below `root` now is on the disk.
  PowerCutFileSystem(FileSystem& disk, std::string root);

  // Leaves on the real disk what a power cut would have left. Nothing may be open.
  void PowerCut(InMemoryFileSystem::Survivors survivors);

  absl::StatusOr<std::string> ReadFile(const std::string& path) override { return disk_.ReadFile(path); }
  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<WritableFile>> OpenAppend(const std::string& path) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status LinkOrCopy(const std::string& from, const std::string& to) override;
  absl::Status SyncDirectory(const std::string& dir) override;
  absl::Status MakeDirectories(const std::string& dir) override;
  absl::Status Remove(const std::string& path) override;
  absl::Status RemoveRecursively(const std::string& path) override;
  absl::Status Truncate(const std::string& path, uint64_t size) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& dir) override { return disk_.List(dir); }
  bool Exists(const std::string& path) override { return disk_.Exists(path); }
  absl::StatusOr<uint64_t> Size(const std::string& path) override { return disk_.Size(path); }

 private:
  class File;
  // Takes over what the twin has not heard of.
  absl::Status Adopt(const std::string& path, bool synced);
  absl::Status WriteOut(const std::string& path);

  FileSystem& disk_;
  const std::string root_;
  InMemoryFileSystem twin_;
};

}  // namespace doppel
