#pragma once

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/io/mapped_file.h"
#include "trainer/stream/received_batch.h"

namespace doppel {

// Bytes behind REFERENCE samples, by mapping the files they point into. Keeps `max_files` of them mapped.
// Thread-safe.
class ReferenceReader {
 public:
  struct Bytes {
    absl::string_view data;
    std::shared_ptr<const MappedFile> file;  // keeps data alive
  };

  explicit ReferenceReader(bool verify = true, size_t max_files = 256)
      : verify_(verify), max_files_(max_files) {}

  // Checks the CRC32C if told to. DATA_LOSS: the file is shorter than it was at import, or differs; what
  // cannot be opened is the file system's error. All name identity and sample.
  absl::StatusOr<Bytes> Read(const ReceivedBatch& batch, size_t sample);

 private:
  absl::StatusOr<std::shared_ptr<const MappedFile>> Open(const std::string& path);

  const bool verify_;
  const size_t max_files_;
  absl::Mutex mutex_;
  absl::flat_hash_map<std::string, std::shared_ptr<const MappedFile>> files_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace doppel
