#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/catalog/catalog_format.h"
#include "common/io/file_system.h"
#include "doppel/v1/storage.pb.h"

namespace doppel {

// Writes one table of a catalog, through a buffer, and sums it up. The number of records is known beforehand.
// Not thread-safe.
class TableWriter {
 public:
  static absl::StatusOr<std::unique_ptr<TableWriter>> Create(FileSystem& fs, const std::string& directory,
                                                             const std::string& name, const char* magic,
                                                             uint32_t record_bytes, uint64_t records);
  // Any number of bytes: records may be appended in pieces.
  absl::Status Append(absl::string_view bytes);
  template <typename Row>
  absl::Status AppendRow(const Row& row) {
    return Append(absl::string_view(reinterpret_cast<const char*>(&row), sizeof(row)));
  }
  // Syncs and closes. Nothing may be appended afterwards.
  absl::StatusOr<v1::FileDigest> Finish();

 private:
  TableWriter(std::string name, std::unique_ptr<WritableFile> file)
      : name_(std::move(name)), file_(std::move(file)) {}
  absl::Status Flush();

  const std::string name_;
  const std::unique_ptr<WritableFile> file_;
  std::string buffer_;
  uint64_t size_ = 0;
  uint32_t crc32c_ = 0;
};

}  // namespace doppel
