#include "services/miner_server/shard_table.h"

#include <string>
#include <utility>

#include "common/io/crc32c.h"
#include "doppel/v1/batches.pb.h"
#include "services/miner_server/wire_message.h"

namespace doppel {
namespace {

constexpr int kPathFieldTag = v1::SampleReference::kPathFieldNumber << 3 | 2;

grpc::Slice SliceOf(const MappedSource& source) {
  using Owner = std::shared_ptr<const void>;
  // gRPC takes a mutable pointer but does not write to it.
  return grpc::Slice(
      const_cast<char*>(source.bytes.data()), source.bytes.size(),
      [](void* owner) { delete static_cast<Owner*>(owner); }, new Owner(source.owner));
}

// crc(header + pixels) ^ this == crc(pixels): checksums are affine in the bytes, and all headers are the
// same.
uint32_t PixelCrcDifference(absl::string_view header, uint64_t pixel_bytes) {
  const std::string zeros(pixel_bytes, '\0');
  return ExtendCrc32c(Crc32c(header), zeros) ^ Crc32c(zeros);
}

std::string PathField(const std::string& path) {
  if (path.empty()) return "";  // proto3 leaves it out
  std::string field(1 + VarintSize(path.size()), static_cast<char>(kPathFieldTag));
  WriteVarint(path.size(), &field[1]);
  return field + path;
}

}  // namespace

ShardTable::ShardTable(std::shared_ptr<const Catalog> catalog)
    : catalog_(std::move(catalog)), shards_(catalog_->num_sources()) {}

const ShardTable::Shard* ShardTable::Load(uint32_t source, uint64_t sample) {
  absl::MutexLock lock(&mutex_);
  const Shard* known = shards_[source].load(std::memory_order_acquire);
  if (known != nullptr) return known;
  absl::StatusOr<MappedSource> mapped = catalog_->Source(source);
  const Shard* found = &none_;
  if (mapped.ok()) {
    Shard& shard = loaded_.emplace_back();
    shard.source = *std::move(mapped);
    shard.whole = SliceOf(shard.source);
    shard.path_field = PathField(shard.source.path);
    shard.path_field_bytes = static_cast<uint32_t>(shard.path_field.size());
    shard.path_field.resize((shard.path_field.size() + kPathBlock - 1) / kPathBlock * kPathBlock);
    const uint64_t pixels = shard.source.raw.bytes();
    const SampleRecord record = catalog_->Sample(sample);
    const uint64_t size = shard.source.bytes.size();
    if (pixels > 0 && record.size >= pixels && record.offset <= size && record.size <= size - record.offset) {
      shard.raw_header_bytes = static_cast<uint32_t>(record.size - pixels);
      shard.raw_crc32c =
          PixelCrcDifference(shard.source.bytes.substr(record.offset, shard.raw_header_bytes), pixels);
    }
    found = &shard;
  }
  shards_[source].store(found, std::memory_order_release);
  return found;
}

}  // namespace doppel
