#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace doppel {

// Held by whoever writes a catalog: a lock on the file "DIR.lock", which goes with the process however it
// ends. The file is removed when the lock is given up.
class CatalogLock {
 public:
  // ABORTED if another process holds it (or this one does).
  static absl::StatusOr<std::unique_ptr<CatalogLock>> Take(const std::string& directory);
  ~CatalogLock();
  CatalogLock(const CatalogLock&) = delete;
  CatalogLock& operator=(const CatalogLock&) = delete;

 private:
  CatalogLock(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  const std::string path_;
  const int fd_;
};

}  // namespace doppel
