#include "services/miner_server/wire_reference.h"

#include <cstdint>
#include <cstring>

#include "absl/base/attributes.h"
#include "doppel/v1/batches.pb.h"
#include "services/miner_server/wire_tags.h"

namespace doppel {
namespace {

// So that all lengths take one byte: what is not path in a v1.Sample is at most 40 bytes.
constexpr size_t kMaxPathField = 80;
static_assert(kMaxReferenceBytes == 2 + kMaxPathField + 40);
static_assert(kMaxReferenceBytes - 2 < 0x80);

// Where the processor can scatter bits by itself.
struct ScatterByInstruction {
  static uint64_t SevenBits(uint64_t value) {
#if defined(__x86_64__)
    uint64_t spread;
    __asm__("pdep %2, %1, %0" : "=r"(spread) : "r"(value), "r"(uint64_t{0x7F7F7F7F7F7F7F7F}));
    return spread;
#else
    return SpreadSevenBits(value);
#endif
  }
};

struct ScatterByShifts {
  static uint64_t SevenBits(uint64_t value) { return SpreadSevenBits(value); }
};

bool HasScatterInstruction() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("bmi2") != 0;
#else
  return false;
#endif
}

template <typename Scatter>
ABSL_ATTRIBUTE_ALWAYS_INLINE inline char* PutNumber(char tag, uint64_t value, char* out) {
  if (value == 0) return out;
  *out++ = tag;
  if (value >> 56 != 0) return WriteVarint(value, out);
  const size_t size = VarintSize(value);
  const uint64_t bytes = Scatter::SevenBits(value) | ContinuationBits(size);
  std::memcpy(out, &bytes, sizeof(bytes));
  return out + size;
}

template <typename Scatter>
char* PutReferences(ShardTable& shards, absl::Span<const uint64_t> samples,
                    absl::Span<const SampleRecord> records, char* out) {
  // An identity's samples stand together.
  uint64_t identity = UINT64_MAX;
  char identity_field[16] = {};
  size_t identity_bytes = 0;
  for (size_t i = 0; i < samples.size(); ++i) {
    const SampleRecord& record = records[i];
    const ShardTable::Shard* const shard = shards.Find(record.source, samples[i]);
    if (shard == nullptr || shard->path_field_bytes > kMaxPathField) return nullptr;
    const uint64_t file_bytes = shard->source.bytes.size();
    if (record.offset > file_bytes || record.size > file_bytes - record.offset) return nullptr;

    out[0] = wire_tags::kSamples;
    char* const sample_begin = out + 2;
    out = sample_begin;
    if (record.identity != identity) {
      identity = record.identity;
      identity_bytes = PutNumber<Scatter>(wire_tags::kIdentity, identity, identity_field) - identity_field;
    }
    std::memcpy(out, identity_field, 8);
    out += identity_bytes;
    out = PutNumber<Scatter>(wire_tags::kNumber, samples[i], out);
    if (record.crc32c != 0) {
      *out++ = wire_tags::kCrc;
      out = WriteFixed32(record.crc32c, out);
    }
    out[0] = wire_tags::kReference;
    char* const reference_begin = out + 2;
    out = reference_begin;
    const char* const path = shard->path_field.data();
    for (size_t copied = 0; copied < shard->path_field_bytes; copied += ShardTable::kPathBlock) {
      std::memcpy(out + copied, path + copied, ShardTable::kPathBlock);
    }
    out += shard->path_field_bytes;
    out = PutNumber<Scatter>(wire_tags::kOffset, record.offset, out);
    out = PutNumber<Scatter>(wire_tags::kSize, record.size, out);
    reference_begin[-1] = static_cast<char>(out - reference_begin);
    sample_begin[-1] = static_cast<char>(out - sample_begin);
  }
  return out;
}

}  // namespace

bool AppendReferences(ShardTable& shards, absl::Span<const uint64_t> samples,
                      absl::Span<const SampleRecord> records, WireMessage& message) {
  char* const end = HasScatterInstruction()
                        ? PutReferences<ScatterByInstruction>(shards, samples, records, message.next())
                        : PutReferences<ScatterByShifts>(shards, samples, records, message.next());
  if (end == nullptr) return false;
  message.set_next(end);
  return true;
}

}  // namespace doppel
