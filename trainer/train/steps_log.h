#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/io/file_system.h"

namespace doppel {

// A file of JSON lines, each starting with {"step":N: steps.jsonl and eval.jsonl. Not thread-safe.
class StepsLog {
 public:
  // Opens for appending. Lines of steps after `last_step`, and a torn last line, are cut off first, so that a
  // resumed run writes the file that an uninterrupted one would have written.
  static absl::StatusOr<std::unique_ptr<StepsLog>> Open(FileSystem& fs, const std::string& path,
                                                        uint64_t last_step);
  // `line` without line feed. Not durable before Sync.
  absl::Status Append(const std::string& line);
  absl::Status Sync();

 private:
  explicit StepsLog(std::unique_ptr<WritableFile> file) : file_(std::move(file)) {}
  std::unique_ptr<WritableFile> file_;
};

}  // namespace doppel
