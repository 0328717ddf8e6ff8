#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/io/file_system.h"

namespace doppel {

// An append-only log of records, each with its length and CRC32C; used by the journal and by representation
// passes. File: 8 bytes magic "DPLREC01"; record: u32 length, u32 crc32c(length bytes + payload), payload.
// Little endian.
class RecordWriter {
 public:
  // Opens for appending; creates with magic. A torn tail (crash in the middle of Append) is cut off first.
  static absl::StatusOr<std::unique_ptr<RecordWriter>> Open(FileSystem& fs, const std::string& path);
  // Not durable before Sync. After an error of Append or Sync the end of the file is unknown: every later
  // call fails with FAILED_PRECONDITION, and the file has to be opened again.
  absl::Status Append(absl::string_view record);
  absl::Status Sync();

 private:
  RecordWriter(std::string path, std::unique_ptr<WritableFile> file)
      : path_(std::move(path)), file_(std::move(file)) {}
  absl::Status Remember(absl::Status status);
  std::string path_;
  std::unique_ptr<WritableFile> file_;
  absl::Status status_;
};

struct RecordFileContents {
  std::vector<std::string> records;
  // Bytes up to the end of the last good record.
  uint64_t valid_bytes = 0;
  // True if bytes after valid_bytes are an incomplete record (a torn tail): cut short, or with its last pages
  // never written. Any other damage is DATA_LOSS, and so is one that good records follow.
  bool torn_tail = false;
};
absl::StatusOr<RecordFileContents> ReadRecordFile(FileSystem& fs, const std::string& path);

struct IntactRecords {
  // What stands before the damage; all of it if there is none.
  RecordFileContents contents;
  // OK, or the DATA_LOSS that ReadRecordFile would return.
  absl::Status damage;
};
// For those who can do with less. An error: the file cannot be read at all.
absl::StatusOr<IntactRecords> ReadIntactRecords(FileSystem& fs, const std::string& path);

}  // namespace doppel
