#pragma once

#include <grpcpp/support/slice.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/catalog/catalog.h"

namespace doppel {

// The catalog's mapped files, ready to be sent from: one look-up per sample, no lock and no count of
// references. Thread-safe.
class ShardTable {
 public:
  struct Shard {
    MappedSource source;
    grpc::Slice whole;  // all of it; its sub-slices keep the mapping alive
    // Raw pixels: bytes before the pixels, and what turns a file's CRC32C into that of its pixels.
    uint32_t raw_header_bytes = 0;
    uint32_t raw_crc32c = 0;
    // Field SampleReference.path as it stands in every reference to this file, and zeros behind it up to a
    // multiple of kPathBlock, so that it can be copied in blocks.
    std::string path_field;
    uint32_t path_field_bytes = 0;  // without the zeros
  };
  static constexpr size_t kPathBlock = 64;

  explicit ShardTable(std::shared_ptr<const Catalog> catalog);

  // Null: not one mapped file. `sample` is any one of that source. Valid as long as the table.
  const Shard* Find(uint32_t source, uint64_t sample) {
    if (source >= shards_.size()) return nullptr;
    const Shard* shard = shards_[source].load(std::memory_order_acquire);
    if (shard == nullptr) shard = Load(source, sample);
    return shard == &none_ ? nullptr : shard;
  }

  const std::shared_ptr<const Catalog>& catalog() const { return catalog_; }

 private:
  const Shard* Load(uint32_t source, uint64_t sample);

  const std::shared_ptr<const Catalog> catalog_;
  const Shard none_;
  std::vector<std::atomic<const Shard*>> shards_;
  absl::Mutex mutex_;
  std::deque<Shard> loaded_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace doppel
