#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace doppel {

// Holds a state directory for one process: flock on its file LOCK, released by the destructor or by the death
// of the process. Child processes do not inherit it.
class StateLock {
 public:
  // The directory must exist. FAILED_PRECONDITION says who holds it.
  static absl::StatusOr<std::unique_ptr<StateLock>> Acquire(const std::string& directory);
  // Whether a process holds it now. Takes and changes nothing.
  static bool Held(const std::string& directory);
  ~StateLock();
  StateLock(const StateLock&) = delete;
  StateLock& operator=(const StateLock&) = delete;

 private:
  explicit StateLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace doppel
