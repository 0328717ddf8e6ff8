#include "services/miner_server/wire_sample.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "services/miner_server/wire_tags.h"

namespace doppel {
namespace {

constexpr size_t kMaxIdleScratch = 8;

// proto3 leaves out what has its default.
size_t NumberFieldSize(uint64_t value) { return value == 0 ? 0 : 1 + VarintSize(value); }
size_t BytesFieldSize(uint64_t size) { return size == 0 ? 0 : 1 + VarintSize(size) + size; }

// These write past their end: see WireMessage::kRoom.
char* WriteNumberField(char tag, uint64_t value, char* out) {
  if (value == 0) return out;
  *out++ = tag;
  return WriteVarintAtOnce(value, out);
}

char* WriteBytesHead(char tag, uint64_t size, char* out) {
  *out++ = tag;
  return WriteVarintAtOnce(size, out);
}

uint32_t ReferenceSize(const WireSample& sample) {
  const uint64_t path =
      sample.shard != nullptr ? sample.shard->path_field_bytes : BytesFieldSize(sample.unmapped->path.size());
  return static_cast<uint32_t>(path + NumberFieldSize(sample.record.offset) +
                               NumberFieldSize(sample.record.size));
}

uint32_t MessageSize(const WireSample& sample, v1::PayloadKind payload) {
  size_t size = NumberFieldSize(sample.record.identity) + NumberFieldSize(sample.number) +
                (sample.record.crc32c == 0 ? 0 : 5);
  if (payload == v1::PAYLOAD_KIND_ENCODED) size += BytesFieldSize(sample.bytes.size());
  if (payload == v1::PAYLOAD_KIND_REFERENCE) {
    size += 1 + VarintSize(sample.reference_bytes) + sample.reference_bytes;
  }
  if (payload == v1::PAYLOAD_KIND_DECODED) size += 5;
  return static_cast<uint32_t>(size);
}

char* WriteReference(const WireSample& sample, char* out) {
  static_assert(ShardTable::kPathBlock <= WireMessage::kRoom);
  out = WriteBytesHead(wire_tags::kReference, sample.reference_bytes, out);
  if (sample.shard != nullptr) {
    const std::string& field = sample.shard->path_field;
    for (size_t i = 0; i < field.size(); i += ShardTable::kPathBlock) {
      std::memcpy(out + i, field.data() + i, ShardTable::kPathBlock);
    }
    out += sample.shard->path_field_bytes;
  } else if (!sample.unmapped->path.empty()) {
    const std::string& path = sample.unmapped->path;
    out = WriteBytesHead(wire_tags::kPath, path.size(), out);
    std::memcpy(out, path.data(), path.size());
    out += path.size();
  }
  out = WriteNumberField(wire_tags::kOffset, sample.record.offset, out);
  return WriteNumberField(wire_tags::kSize, sample.record.size, out);
}

}  // namespace

absl::Status SampleError(const Catalog& catalog, uint64_t sample, const absl::Status& cause) {
  const uint64_t identity = catalog.Sample(sample).identity;
  return absl::Status(cause.code(),
                      absl::StrCat("sample ", sample, " (", catalog.SampleKey(sample), ") of identity ",
                                   identity, " (", catalog.IdentityName(identity), "): ", cause.message()));
}

std::unique_ptr<WireSamples> WireSampleScratch::Take() {
  absl::MutexLock lock(&mutex_);
  if (idle_.empty()) return std::make_unique<WireSamples>();
  std::unique_ptr<WireSamples> samples = std::move(idle_.back());
  idle_.pop_back();
  return samples;
}

void WireSampleScratch::Return(std::unique_ptr<WireSamples> samples) {
  samples->Clear();
  absl::MutexLock lock(&mutex_);
  if (idle_.size() < kMaxIdleScratch) idle_.push_back(std::move(samples));
}

void WireSamples::Clear() {
  count_ = 0;
  unmapped_.clear();
}

absl::Status WireSamples::FindUnmapped(const Catalog& catalog, v1::PayloadKind payload, WireSample& sample) {
  WireSample::Unmapped& unmapped = unmapped_.emplace_back();
  sample.unmapped = &unmapped;
  sample.bytes = {};
  if (payload == v1::PAYLOAD_KIND_REFERENCE) {
    if (!catalog.Contiguous(sample.number)) {
      return absl::FailedPreconditionError(
          "its bytes do not lie in one piece in the file, so there is no reference to them: ask for ENCODED");
    }
    unmapped.path = catalog.SamplePath(sample.number);
    return absl::OkStatus();
  }
  absl::StatusOr<SampleBytes> bytes = catalog.Read(sample.number);
  if (!bytes.ok()) return absl::DataLossError(bytes.status().message());
  sample.bytes = bytes->data;
  unmapped.owner = std::move(bytes->owner);
  return absl::OkStatus();
}

absl::Span<const SampleRecord> WireSamples::Records(const Catalog& catalog,
                                                    absl::Span<const uint64_t> samples) {
  if (records_.size() < samples.size()) records_.resize(samples.size());
  catalog.SampleRecords(samples.data(), samples.size(), records_.data());
  return absl::MakeConstSpan(records_.data(), samples.size());
}

absl::Status WireSamples::Find(ShardTable& shards, v1::PayloadKind payload,
                               absl::Span<const uint64_t> samples) {
  const Catalog& catalog = *shards.catalog();
  Clear();
  if (samples_.size() < samples.size()) samples_.resize(samples.size());
  const absl::Span<const SampleRecord> records = Records(catalog, samples);
  for (size_t i = 0; i < samples.size(); ++i) {
    WireSample& sample = samples_[i];
    const SampleRecord& record = records[i];
    sample.number = samples[i];
    sample.record = record;
    sample.unmapped = nullptr;
    sample.shard = shards.Find(record.source, sample.number);
    if (sample.shard != nullptr) {
      const absl::string_view file = sample.shard->source.bytes;
      if (record.offset <= file.size() && record.size <= file.size() - record.offset) {
        sample.bytes = absl::string_view(file.data() + record.offset, record.size);
      } else {
        sample.shard = nullptr;  // Read says what is wrong
      }
    }
    if (sample.shard == nullptr) {
      const absl::Status status = FindUnmapped(catalog, payload, sample);
      if (!status.ok()) return SampleError(catalog, sample.number, status);
    }
    sample.reference_bytes = payload == v1::PAYLOAD_KIND_REFERENCE ? ReferenceSize(sample) : 0;
    sample.message_bytes = MessageSize(sample, payload);
  }
  count_ = samples.size();
  return absl::OkStatus();
}

void AppendBytes(const WireSample& sample, absl::string_view bytes, uint64_t borrow_bytes,
                 WireMessage& message) {
  if (bytes.size() < borrow_bytes) return message.Append(bytes);
  if (sample.shard != nullptr) {
    const size_t begin = bytes.data() - sample.shard->source.bytes.data();
    return message.Borrow(sample.shard->whole.sub(begin, begin + bytes.size()));
  }
  using Owner = std::shared_ptr<const void>;
  // gRPC takes a mutable pointer but does not write to it.
  message.Borrow(grpc::Slice(
      const_cast<char*>(bytes.data()), bytes.size(), [](void* owner) { delete static_cast<Owner*>(owner); },
      new Owner(sample.unmapped->owner)));
}

char* AppendSample(const WireSample& sample, v1::PayloadKind payload, uint64_t borrow_bytes,
                   WireMessage& message) {
  char* out = WriteBytesHead(wire_tags::kSamples, sample.message_bytes, message.next());
  out = WriteNumberField(wire_tags::kIdentity, sample.record.identity, out);
  out = WriteNumberField(wire_tags::kNumber, sample.number, out);
  if (sample.record.crc32c != 0) {
    *out++ = wire_tags::kCrc;
    out = WriteFixed32(sample.record.crc32c, out);
  }
  if (payload == v1::PAYLOAD_KIND_REFERENCE) out = WriteReference(sample, out);
  char* pixels_crc = nullptr;
  if (payload == v1::PAYLOAD_KIND_DECODED) {
    *out++ = wire_tags::kPixelsCrc;
    pixels_crc = out;
    out += 4;
  }
  const bool encoded = payload == v1::PAYLOAD_KIND_ENCODED && !sample.bytes.empty();
  if (encoded) out = WriteBytesHead(wire_tags::kEncoded, sample.bytes.size(), out);
  message.set_next(out);
  if (encoded) AppendBytes(sample, sample.bytes, borrow_bytes, message);
  return pixels_crc;
}

}  // namespace doppel
