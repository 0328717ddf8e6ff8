#include "common/catalog/source_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/catalog/readers/record_parts.h"

namespace doppel {
namespace {

absl::Status SystemError(const std::string& what, const std::string& path, int error) {
  const std::string text = absl::StrCat("cannot ", what, " ", absl::CEscape(path), ": ", std::strerror(error),
                                        ". The catalog points to it: put it back, or import again");
  return error == ENOENT || error == ENOTDIR ? absl::NotFoundError(text) : absl::UnavailableError(text);
}

absl::Status Changed(const std::string& path, uint64_t before, uint64_t now) {
  return absl::DataLossError(absl::StrCat(absl::CEscape(path), " has ", now, " bytes and had ", before,
                                          " when it was imported: put the old file back, or import again"));
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

// [offset, offset + size) of a file that must have `file_size` bytes.
absl::StatusOr<SampleBytes> ReadRange(const std::string& path, uint64_t file_size, uint64_t offset,
                                      uint32_t size) {
  const Descriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return SystemError("open", path, errno);
  struct stat info {};
  if (fstat(fd.get(), &info) != 0) return SystemError("stat", path, errno);
  if (static_cast<uint64_t>(info.st_size) != file_size) return Changed(path, file_size, info.st_size);
  auto bytes = std::make_shared<std::string>(size, '\0');
  for (size_t done = 0; done < size;) {
    const ssize_t n = pread(fd.get(), bytes->data() + done, size - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return SystemError("read", path, errno);
    if (n == 0) return Changed(path, file_size, offset + done);
    done += n;
  }
  SampleBytes result;
  result.data = *bytes;
  result.owner = std::move(bytes);
  return result;
}

}  // namespace

SourceFiles::SourceFiles(std::vector<v1::CatalogSource> sources, const std::string& directory) {
  std::error_code error;
  const std::filesystem::path base = std::filesystem::absolute(directory, error);
  for (v1::CatalogSource& source : sources) {
    const std::filesystem::path path = source.path();
    if (path.is_relative()) source.set_path((base / path).lexically_normal().string());
    slots_.emplace_back().source = std::move(source);
  }
}

std::string SourceFiles::Path(size_t index, absl::string_view key) const {
  const v1::CatalogSource& source = slots_[index].source;
  if (source.kind() == v1::CatalogSource::KIND_DIRECTORY) {
    return absl::StrCat(source.path(), source.path() == "/" ? "" : "/", key);
  }
  return source.path();
}

absl::StatusOr<std::shared_ptr<const MappedFile>> SourceFiles::Map(const Slot& slot) const {
  absl::MutexLock lock(&slot.mutex);
  if (slot.file == nullptr) {
    ASSIGN_OR_RETURN(std::shared_ptr<const MappedFile> file,
                     MappedFile::Open(slot.source.path(), MappedFile::Access::kRandom));
    if (file->size() != slot.source.size())
      return Changed(slot.source.path(), slot.source.size(), file->size());
    slot.file = std::move(file);
  }
  return slot.file;
}

absl::StatusOr<SampleBytes> SourceFiles::JoinParts(const Slot& slot, uint64_t offset, uint32_t size) const {
  ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> file, Map(slot));
  absl::StatusOr<JoinedRecord> record = JoinRecordParts(file->data(), offset);
  if (!record.ok() || record->payload.size() < size) {
    return absl::DataLossError(
        absl::StrCat(slot.source.path(), " at byte ", offset, ": ",
                     record.ok() ? "the record is shorter than at its import" : record.status().message(),
                     ": put the old file back, or import again"));
  }
  SampleBytes result;
  auto bytes = std::make_shared<std::string>(std::move(record->payload));
  result.data = absl::string_view(*bytes).substr(bytes->size() - size);
  result.owner = std::move(bytes);
  return result;
}

absl::StatusOr<MappedSource> SourceFiles::WholeFile(size_t index) const {
  const Slot& slot = slots_[index];
  if (slot.source.kind() != v1::CatalogSource::KIND_FILE) {
    return absl::FailedPreconditionError(
        absl::StrCat(slot.source.path(), " is not one file of whole samples"));
  }
  ASSIGN_OR_RETURN(std::shared_ptr<const MappedFile> file, Map(slot));
  MappedSource source;
  source.bytes = file->data();
  source.path = slot.source.path();
  if (slot.source.has_raw_pixels()) {
    const v1::ImageShape& shape = slot.source.raw_pixels();
    source.raw = {shape.height(), shape.width(), shape.channels()};
  }
  source.owner = std::move(file);
  return source;
}

absl::StatusOr<SampleBytes> SourceFiles::Read(size_t index, absl::string_view key, uint64_t offset,
                                              uint32_t size) const {
  const Slot& slot = slots_[index];
  if (slot.source.kind() == v1::CatalogSource::KIND_DIRECTORY)
    return ReadRange(Path(index, key), size, 0, size);
  if (offset > slot.source.size() || size > slot.source.size() - offset) {
    return absl::DataLossError(absl::StrCat("the catalog says bytes ", offset, " to ", offset + size, " of ",
                                            slot.source.path(), ", which has ", slot.source.size(),
                                            ": its tables are damaged, import again"));
  }
  if (slot.source.kind() == v1::CatalogSource::KIND_RECORD_PARTS) return JoinParts(slot, offset, size);
  absl::StatusOr<std::shared_ptr<const MappedFile>> file = Map(slot);
  if (!file.ok()) {
    if (absl::IsDataLoss(file.status())) return file.status();
    return ReadRange(slot.source.path(), slot.source.size(), offset, size);
  }
  SampleBytes result;
  result.data = (*file)->data().substr(offset, size);
  result.owner = *std::move(file);
  return result;
}

}  // namespace doppel
