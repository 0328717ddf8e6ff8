#include "common/io/atomic_file.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

absl::Status WriteSynced(FileSystem& fs, const std::string& path, absl::string_view data) {
  ASSIGN_OR_RETURN(const std::unique_ptr<WritableFile> file, fs.Create(path));
  RETURN_IF_ERROR(file->Append(data));
  RETURN_IF_ERROR(file->Sync());
  return file->Close();
}

}  // namespace

absl::Status WriteFileAtomically(FileSystem& fs, const std::string& path, absl::string_view data) {
  const std::string temporary = absl::StrCat(path, ".tmp");
  absl::Status status = WriteSynced(fs, temporary, data);
  if (status.ok()) status = fs.Rename(temporary, path);
  if (!status.ok()) {
    fs.Remove(temporary).IgnoreError();  // the first error is the one that tells
    return status;
  }
  return fs.SyncDirectory(DirectoryOf(path));
}

}  // namespace doppel
