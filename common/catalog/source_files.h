#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "common/catalog/catalog.h"
#include "common/io/mapped_file.h"
#include "doppel/v1/storage.pb.h"

namespace doppel {

// The files that a catalog points into. Shards are mapped at their first use, and read with pread where the
// kernel refuses one more mapping (vm.max_map_count). A file whose size has changed since the import is
// DATA_LOSS. Thread-safe.
class SourceFiles {
 public:
  // Relative paths are taken from `directory`.
  SourceFiles(std::vector<v1::CatalogSource> sources, const std::string& directory);

  size_t size() const { return slots_.size(); }
  const v1::CatalogSource& source(size_t index) const { return slots_[index].source; }
  // The file that holds a sample.
  std::string Path(size_t index, absl::string_view key) const;
  // FAILED_PRECONDITION unless the source is one file of whole samples.
  absl::StatusOr<MappedSource> WholeFile(size_t index) const;
  absl::StatusOr<SampleBytes> Read(size_t index, absl::string_view key, uint64_t offset, uint32_t size) const;

 private:
  struct Slot {
    v1::CatalogSource source;
    mutable absl::Mutex mutex;
    mutable std::shared_ptr<const MappedFile> file ABSL_GUARDED_BY(mutex);
  };
  absl::StatusOr<std::shared_ptr<const MappedFile>> Map(const Slot& slot) const;
  // The last `size` bytes of the record at `offset`.
  absl::StatusOr<SampleBytes> JoinParts(const Slot& slot, uint64_t offset, uint32_t size) const;

  std::deque<Slot> slots_;
};

}  // namespace doppel
