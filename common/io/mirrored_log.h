#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/io/file_system.h"
#include "common/io/record_file.h"

namespace doppel {

// A log of records that is kept twice: `path` and `path`.copy, record files with the same records. Damage of
// one of them (a flipped bit, a lost file, a last record that only looks unfinished) costs nothing that was
// synced. For small logs that everything hangs on. Not thread-safe.
class MirroredLog {
 public:
  struct Contents {
    std::vector<std::string> records;
    // What is wrong with one of the files, each naming it. Open mends it.
    std::vector<std::string> damage;
    // The files that end in an unfinished record, as a crash leaves them. Open cuts it off.
    std::vector<std::string> torn;
  };
  // Changes nothing; a log that is not there is empty. DATA_LOSS: neither file has all records, or they
  // contradict each other.
  static absl::StatusOr<Contents> Read(FileSystem& fs, const std::string& path);

  // Opens or creates both files and brings them level. A damaged one is kept aside as FILE.damaged.
  static absl::StatusOr<std::unique_ptr<MirroredLog>> Open(FileSystem& fs, const std::string& path,
                                                           Contents* contents);
  // Not durable before Sync. After an error every call fails: open it again.
  absl::Status Append(absl::string_view record);
  absl::Status Sync();

  // Replaces both files by these records, as WriteFileAtomically would; no log may be open on them.
  static absl::Status Replace(FileSystem& fs, const std::string& path,
                              const std::vector<std::string>& records);
  static std::string CopyPath(const std::string& path) { return path + ".copy"; }

 private:
  absl::Status SyncBoth();
  MirroredLog(std::unique_ptr<RecordWriter> first, std::unique_ptr<RecordWriter> copy)
      : first_(std::move(first)), copy_(std::move(copy)) {}
  const std::unique_ptr<RecordWriter> first_;
  const std::unique_ptr<RecordWriter> copy_;
  // Not in the copy yet: it is never ahead of what the first file has on the disk.
  std::vector<std::string> pending_;
  absl::Status broken_;
};

}  // namespace doppel
