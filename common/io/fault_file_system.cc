#include "common/io/fault_file_system.h"

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace doppel {

class FaultInjectingFileSystem::File : public WritableFile {
 public:
  File(FaultInjectingFileSystem& owner, std::string path, std::unique_ptr<WritableFile> base)
      : owner_(owner), path_(std::move(path)), base_(std::move(base)) {}

  absl::Status Append(absl::string_view data) override {
    double share = 0;
    absl::Status status = owner_.Count("append to", path_, &share);
    if (status.ok()) return base_->Append(data);
    const auto written = static_cast<size_t>(share * static_cast<double>(data.size()));
    if (written > 0) RETURN_IF_ERROR(base_->Append(data.substr(0, written)));
    return status;
  }
  absl::Status Sync() override {
    RETURN_IF_ERROR(owner_.Count("sync", path_));
    return base_->Sync();
  }
  absl::Status Close() override {
    RETURN_IF_ERROR(owner_.Count("close", path_));
    return base_->Close();
  }

 private:
  FaultInjectingFileSystem& owner_;
  const std::string path_;
  const std::unique_ptr<WritableFile> base_;
};

void FaultInjectingFileSystem::Inject(const Fault& fault) {
  absl::MutexLock lock(&mutex_);
  fault_ = fault;
  armed_ = true;
}

void FaultInjectingFileSystem::Clear() {
  absl::MutexLock lock(&mutex_);
  armed_ = false;
}

uint64_t FaultInjectingFileSystem::calls() const {
  absl::MutexLock lock(&mutex_);
  return calls_;
}

absl::Status FaultInjectingFileSystem::Count(absl::string_view what, const std::string& path,
                                             double* short_write) {
  absl::MutexLock lock(&mutex_);
  const uint64_t call = calls_++;
  if (!armed_ || call < fault_.call) return absl::OkStatus();
  if (call > fault_.call && fault_.lasting == Lasting::kOnce) return absl::OkStatus();
  if (short_write != nullptr && call == fault_.call) *short_write = fault_.short_write;
  return absl::ErrnoToStatus(fault_.error == Error::kIo ? EIO : ENOSPC,
                             absl::StrCat("injected at call ", call, ": cannot ", what, " ", path));
}

absl::StatusOr<std::string> FaultInjectingFileSystem::ReadFile(const std::string& path) {
  return base_.ReadFile(path);
}

absl::StatusOr<std::unique_ptr<WritableFile>> FaultInjectingFileSystem::Create(const std::string& path) {
  RETURN_IF_ERROR(Count("create", path));
  ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, base_.Create(path));
  return std::unique_ptr<WritableFile>(std::make_unique<File>(*this, path, std::move(file)));
}

absl::StatusOr<std::unique_ptr<WritableFile>> FaultInjectingFileSystem::OpenAppend(const std::string& path) {
  RETURN_IF_ERROR(Count("open", path));
  ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, base_.OpenAppend(path));
  return std::unique_ptr<WritableFile>(std::make_unique<File>(*this, path, std::move(file)));
}

absl::Status FaultInjectingFileSystem::Rename(const std::string& from, const std::string& to) {
  RETURN_IF_ERROR(Count("rename", from));
  return base_.Rename(from, to);
}

absl::Status FaultInjectingFileSystem::LinkOrCopy(const std::string& from, const std::string& to) {
  RETURN_IF_ERROR(Count("link", from));
  return base_.LinkOrCopy(from, to);
}

absl::Status FaultInjectingFileSystem::SyncDirectory(const std::string& dir) {
  RETURN_IF_ERROR(Count("sync folder", dir));
  return base_.SyncDirectory(dir);
}

absl::Status FaultInjectingFileSystem::MakeDirectories(const std::string& dir) {
  RETURN_IF_ERROR(Count("make folder", dir));
  return base_.MakeDirectories(dir);
}

absl::Status FaultInjectingFileSystem::Remove(const std::string& path) {
  RETURN_IF_ERROR(Count("remove", path));
  return base_.Remove(path);
}

absl::Status FaultInjectingFileSystem::RemoveRecursively(const std::string& path) {
  RETURN_IF_ERROR(Count("remove", path));
  return base_.RemoveRecursively(path);
}

absl::Status FaultInjectingFileSystem::Truncate(const std::string& path, uint64_t size) {
  RETURN_IF_ERROR(Count("truncate", path));
  return base_.Truncate(path, size);
}

absl::StatusOr<std::vector<std::string>> FaultInjectingFileSystem::List(const std::string& dir) {
  return base_.List(dir);
}

bool FaultInjectingFileSystem::Exists(const std::string& path) { return base_.Exists(path); }

absl::StatusOr<uint64_t> FaultInjectingFileSystem::Size(const std::string& path) { return base_.Size(path); }

}  // namespace doppel
