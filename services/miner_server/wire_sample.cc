#include "services/miner_server/wire_sample.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

// Tags of v1.Sample, of v1.SampleReference and of Batch.samples: all take one byte.
enum WireType : uint8_t { kVarintType = 0, kBytesType = 2, kFixed32Type = 5 };
constexpr char TagOf(int field, WireType type) { return static_cast<char>(field << 3 | type); }
static_assert(v1::Batch::kSamplesFieldNumber < 16, "the tag would take two bytes");
constexpr char kSamplesTag = TagOf(v1::Batch::kSamplesFieldNumber, kBytesType);
constexpr char kIdentityTag = TagOf(v1::Sample::kIdentityFieldNumber, kVarintType);
constexpr char kNumberTag = TagOf(v1::Sample::kSampleFieldNumber, kVarintType);
constexpr char kCrcTag = TagOf(v1::Sample::kCrc32CFieldNumber, kFixed32Type);
constexpr char kEncodedTag = TagOf(v1::Sample::kEncodedFieldNumber, kBytesType);
constexpr char kReferenceTag = TagOf(v1::Sample::kReferenceFieldNumber, kBytesType);
constexpr char kPixelsCrcTag = TagOf(v1::Sample::kPixelsCrc32CFieldNumber, kFixed32Type);
constexpr char kPathTag = TagOf(v1::SampleReference::kPathFieldNumber, kBytesType);
constexpr char kOffsetTag = TagOf(v1::SampleReference::kOffsetFieldNumber, kVarintType);
constexpr char kSizeTag = TagOf(v1::SampleReference::kSizeFieldNumber, kVarintType);

constexpr size_t kMaxIdleScratch = 8;

// proto3 leaves out what has its default.
size_t NumberFieldSize(uint64_t value) { return value == 0 ? 0 : 1 + VarintSize(value); }
size_t BytesFieldSize(uint64_t size) { return size == 0 ? 0 : 1 + VarintSize(size) + size; }

char* WriteNumberField(char tag, uint64_t value, char* out) {
  if (value == 0) return out;
  *out++ = tag;
  return WriteVarint(value, out);
}

char* WriteBytesHead(char tag, uint64_t size, char* out) {
  *out++ = tag;
  return WriteVarint(size, out);
}

uint32_t ReferenceSize(const WireSample& sample) {
  return static_cast<uint32_t>(BytesFieldSize(sample.path.size()) + NumberFieldSize(sample.record.offset) +
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
  out = WriteBytesHead(kReferenceTag, sample.reference_bytes, out);
  if (!sample.path.empty()) {
    out = WriteBytesHead(kPathTag, sample.path.size(), out);
    std::memcpy(out, sample.path.data(), sample.path.size());
    out += sample.path.size();
  }
  out = WriteNumberField(kOffsetTag, sample.record.offset, out);
  return WriteNumberField(kSizeTag, sample.record.size, out);
}

// Where there is no mapped file.
absl::Status FindSlowly(const Catalog& catalog, v1::PayloadKind payload, WireSample& sample) {
  if (payload == v1::PAYLOAD_KIND_REFERENCE) {
    if (!catalog.Contiguous(sample.number)) {
      return absl::FailedPreconditionError(
          "its bytes do not lie in one piece in the file, so there is no reference to them: ask for ENCODED");
    }
    auto path = std::make_shared<const std::string>(catalog.SamplePath(sample.number));
    sample.path = *path;
    sample.owner = std::move(path);
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(SampleBytes bytes, catalog.Read(sample.number));
  sample.bytes = bytes.data;
  sample.owner = std::move(bytes.owner);
  return absl::OkStatus();
}

}  // namespace

absl::Status SampleError(const Catalog& catalog, uint64_t sample, const absl::Status& cause) {
  const uint64_t identity = catalog.Sample(sample).identity;
  return absl::Status(cause.code(),
                      absl::StrCat("sample ", sample, " (", catalog.SampleKey(sample), ") of identity ",
                                   identity, " (", catalog.IdentityName(identity), "): ", cause.message()));
}

std::vector<WireSample> WireSampleScratch::Take() {
  absl::MutexLock lock(&mutex_);
  if (idle_.empty()) return {};
  std::vector<WireSample> samples = std::move(idle_.back());
  idle_.pop_back();
  return samples;
}

void WireSampleScratch::Return(std::vector<WireSample> samples) {
  samples.clear();
  absl::MutexLock lock(&mutex_);
  if (idle_.size() < kMaxIdleScratch) idle_.push_back(std::move(samples));
}

absl::Status FindSamples(ShardTable& shards, v1::PayloadKind payload, absl::Span<const uint64_t> samples,
                         std::vector<WireSample>* out) {
  const Catalog& catalog = *shards.catalog();
  std::vector<WireSample>& found = *out;
  found.clear();
  found.resize(samples.size());
  // A loop of its own: the look-ups miss the cache, and so do it side by side.
  for (size_t i = 0; i < samples.size(); ++i) {
    found[i].number = samples[i];
    found[i].record = catalog.Sample(samples[i]);
  }
  for (WireSample& sample : found) {
    const SampleRecord& record = sample.record;
    sample.shard = shards.Find(record.source, sample.number);
    if (sample.shard != nullptr) {
      const absl::string_view file = sample.shard->source.bytes;
      if (record.offset <= file.size() && record.size <= file.size() - record.offset) {
        sample.bytes = file.substr(record.offset, record.size);
        sample.path = sample.shard->source.path;
      } else {
        sample.shard = nullptr;  // Read says what is wrong
      }
    }
    if (sample.shard == nullptr) {
      const absl::Status status = FindSlowly(catalog, payload, sample);
      if (absl::IsFailedPrecondition(status)) return SampleError(catalog, sample.number, status);
      if (!status.ok()) return SampleError(catalog, sample.number, absl::DataLossError(status.message()));
    }
    if (payload == v1::PAYLOAD_KIND_REFERENCE) sample.reference_bytes = ReferenceSize(sample);
    sample.message_bytes = MessageSize(sample, payload);
  }
  return absl::OkStatus();
}

uint64_t SampleFieldBytes(const WireSample& sample) {
  return 1 + VarintSize(sample.message_bytes) + sample.message_bytes;
}

uint64_t SampleCopiedBytes(const WireSample& sample, v1::PayloadKind payload, uint64_t borrow_bytes) {
  const bool borrows = payload == v1::PAYLOAD_KIND_ENCODED && sample.bytes.size() >= borrow_bytes;
  return SampleFieldBytes(sample) - (borrows ? sample.bytes.size() : 0);
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
      new Owner(sample.owner)));
}

char* AppendSample(const WireSample& sample, v1::PayloadKind payload, uint64_t borrow_bytes,
                   WireMessage& message) {
  char* out = WriteBytesHead(kSamplesTag, sample.message_bytes, message.next());
  out = WriteNumberField(kIdentityTag, sample.record.identity, out);
  out = WriteNumberField(kNumberTag, sample.number, out);
  if (sample.record.crc32c != 0) {
    *out++ = kCrcTag;
    out = WriteFixed32(sample.record.crc32c, out);
  }
  if (payload == v1::PAYLOAD_KIND_REFERENCE) out = WriteReference(sample, out);
  char* pixels_crc = nullptr;
  if (payload == v1::PAYLOAD_KIND_DECODED) {
    *out++ = kPixelsCrcTag;
    pixels_crc = out;
    out += 4;
  }
  const bool encoded = payload == v1::PAYLOAD_KIND_ENCODED && !sample.bytes.empty();
  if (encoded) out = WriteBytesHead(kEncodedTag, sample.bytes.size(), out);
  message.set_next(out);
  if (encoded) AppendBytes(sample, sample.bytes, borrow_bytes, message);
  return pixels_crc;
}

}  // namespace doppel
