#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/io/file_system.h"

namespace doppel {

// Writes one tar file (ustar), member by member, the same bytes for the same members: mode 0644, no owner,
// time 0. Not thread-safe.
class ShardWriter {
 public:
  static absl::StatusOr<std::unique_ptr<ShardWriter>> Create(FileSystem& fs, const std::string& path);

  // Names of up to 99 bytes, contents of up to 8 GiB. `offset` is where the content begins.
  absl::Status Add(const std::string& name, absl::string_view content, uint64_t* offset);
  // What the members so far take.
  uint64_t size() const { return size_; }
  // The two blocks at the end; syncs and closes. Nothing may be added afterwards.
  absl::Status Finish();

 private:
  explicit ShardWriter(std::unique_ptr<WritableFile> file) : file_(std::move(file)) {}
  absl::Status Append(absl::string_view bytes);

  const std::unique_ptr<WritableFile> file_;
  std::string buffer_;
  uint64_t size_ = 0;
};

// Bytes that a member of this size takes in an archive.
uint64_t TarMemberBytes(uint64_t content);

}  // namespace doppel
