#include "tests/faults/power_cut_file_system.h"

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

bool IsFolder(FileSystem& fs, const std::string& path) { return fs.List(path).ok(); }

void MustBe(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "power cut: %s\n", status.ToString().c_str());
  std::abort();
}

}  // namespace

class PowerCutFileSystem::File : public WritableFile {
 public:
  File(std::unique_ptr<WritableFile> disk, std::unique_ptr<WritableFile> twin)
      : disk_(std::move(disk)), twin_(std::move(twin)) {}
  absl::Status Append(absl::string_view data) override {
    RETURN_IF_ERROR(disk_->Append(data));
    return twin_->Append(data);
  }
  absl::Status Sync() override {
    RETURN_IF_ERROR(disk_->Sync());
    return twin_->Sync();
  }
  absl::Status Close() override {
    RETURN_IF_ERROR(disk_->Close());
    return twin_->Close();
  }

 private:
  const std::unique_ptr<WritableFile> disk_;
  const std::unique_ptr<WritableFile> twin_;
};

PowerCutFileSystem::PowerCutFileSystem(FileSystem& disk, std::string root)
    : disk_(disk), root_(std::move(root)) {
  MustBe(twin_.MakeDirectories(root_));
  MustBe(Adopt(root_, true));
}

absl::Status PowerCutFileSystem::Adopt(const std::string& path, bool synced) {
  if (IsFolder(disk_, path)) {
    RETURN_IF_ERROR(twin_.MakeDirectories(path));
    ASSIGN_OR_RETURN(const std::vector<std::string> names, disk_.List(path));
    for (const std::string& name : names) RETURN_IF_ERROR(Adopt(absl::StrCat(path, "/", name), synced));
    return synced ? twin_.SyncDirectory(path) : absl::OkStatus();
  }
  if (twin_.Exists(path)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string data, disk_.ReadFile(path));
  ASSIGN_OR_RETURN(const auto file, twin_.Create(path));
  RETURN_IF_ERROR(file->Append(data));
  return synced ? file->Sync() : absl::OkStatus();
}

void PowerCutFileSystem::PowerCut(InMemoryFileSystem::Survivors survivors) {
  twin_.DropUnsynced(survivors);
  MustBe(disk_.RemoveRecursively(root_));
  MustBe(WriteOut(root_));
}

absl::Status PowerCutFileSystem::WriteOut(const std::string& path) {
  if (IsFolder(twin_, path)) {
    RETURN_IF_ERROR(disk_.MakeDirectories(path));
    ASSIGN_OR_RETURN(const std::vector<std::string> names, twin_.List(path));
    for (const std::string& name : names) RETURN_IF_ERROR(WriteOut(absl::StrCat(path, "/", name)));
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const std::string data, twin_.ReadFile(path));
  ASSIGN_OR_RETURN(const auto file, disk_.Create(path));
  return file->Append(data);
}

absl::StatusOr<std::unique_ptr<WritableFile>> PowerCutFileSystem::Create(const std::string& path) {
  ASSIGN_OR_RETURN(auto disk, disk_.Create(path));
  ASSIGN_OR_RETURN(auto twin, twin_.Create(path));
  return std::unique_ptr<WritableFile>(std::make_unique<File>(std::move(disk), std::move(twin)));
}

absl::StatusOr<std::unique_ptr<WritableFile>> PowerCutFileSystem::OpenAppend(const std::string& path) {
  if (disk_.Exists(path)) RETURN_IF_ERROR(Adopt(path, false));
  ASSIGN_OR_RETURN(auto disk, disk_.OpenAppend(path));
  ASSIGN_OR_RETURN(auto twin, twin_.OpenAppend(path));
  return std::unique_ptr<WritableFile>(std::make_unique<File>(std::move(disk), std::move(twin)));
}

absl::Status PowerCutFileSystem::Rename(const std::string& from, const std::string& to) {
  RETURN_IF_ERROR(Adopt(from, false));
  RETURN_IF_ERROR(disk_.Rename(from, to));
  return twin_.Rename(from, to);
}

absl::Status PowerCutFileSystem::LinkOrCopy(const std::string& from, const std::string& to) {
  RETURN_IF_ERROR(disk_.LinkOrCopy(from, to));
  // What is linked is not written any more, so it is as durable as a copy that is synced.
  return Adopt(to, true);
}

absl::Status PowerCutFileSystem::SyncDirectory(const std::string& dir) {
  RETURN_IF_ERROR(disk_.SyncDirectory(dir));
  // With the names of files that others have written.
  if (twin_.Exists(dir)) RETURN_IF_ERROR(Adopt(dir, false));
  return twin_.Exists(dir) ? twin_.SyncDirectory(dir) : absl::OkStatus();
}

absl::Status PowerCutFileSystem::MakeDirectories(const std::string& dir) {
  RETURN_IF_ERROR(disk_.MakeDirectories(dir));
  return twin_.MakeDirectories(dir);
}

absl::Status PowerCutFileSystem::Remove(const std::string& path) {
  RETURN_IF_ERROR(disk_.Remove(path));
  return twin_.Exists(path) ? twin_.Remove(path) : absl::OkStatus();
}

absl::Status PowerCutFileSystem::RemoveRecursively(const std::string& path) {
  RETURN_IF_ERROR(disk_.RemoveRecursively(path));
  return twin_.RemoveRecursively(path);
}

absl::Status PowerCutFileSystem::Truncate(const std::string& path, uint64_t size) {
  RETURN_IF_ERROR(Adopt(path, false));
  RETURN_IF_ERROR(disk_.Truncate(path, size));
  return twin_.Truncate(path, size);
}

}  // namespace doppel
