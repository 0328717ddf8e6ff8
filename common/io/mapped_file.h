#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace doppel {

// A read-only memory-mapped file. Immutable, thread-safe; the mapping lives as long as the object.
class MappedFile {
 public:
  enum class Access { kNormal, kRandom, kSequential };
  static absl::StatusOr<std::shared_ptr<const MappedFile>> Open(const std::string& path,
                                                                Access access = Access::kNormal);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  absl::string_view data() const { return {data_, size_}; }
  uint64_t size() const { return size_; }
  const std::string& path() const { return path_; }
  // Starts reading [offset, offset + size) without waiting for it.
  void Prefetch(uint64_t offset, uint64_t size) const;

 private:
  MappedFile(std::string path, const char* data, uint64_t size)
      : path_(std::move(path)), data_(data), size_(size) {}
  std::string path_;
  const char* data_;
  uint64_t size_;
};

}  // namespace doppel
