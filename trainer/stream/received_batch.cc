#include "trainer/stream/received_batch.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace doppel {
namespace {

constexpr uint64_t kVarint = 0, kBytes = 2, kFixed32 = 5;
constexpr uint64_t TagFor(int field, uint64_t type) { return static_cast<uint64_t>(field) << 3 | type; }

bool ParseReference(const MessageBytes& message, const ByteRange& range, ReceivedSample* sample) {
  WireReader reader(message, range);
  while (!reader.AtEnd()) {
    uint64_t tag = 0;
    if (!reader.ReadVarint(&tag)) return false;
    bool good = false;
    switch (tag) {
      case TagFor(v1::SampleReference::kPathFieldNumber, kBytes):
        good = reader.ReadRange(&sample->path);
        break;
      case TagFor(v1::SampleReference::kOffsetFieldNumber, kVarint):
        good = reader.ReadVarint(&sample->offset);
        break;
      case TagFor(v1::SampleReference::kSizeFieldNumber, kVarint):
        good = reader.ReadVarint(&sample->size);
        break;
      default:
        good = reader.SkipValue(tag & 7);
    }
    if (!good) return false;
  }
  return true;
}

bool ParseSample(const MessageBytes& message, const ByteRange& range, ReceivedSample* sample) {
  WireReader reader(message, range);
  while (!reader.AtEnd()) {
    uint64_t tag = 0;
    if (!reader.ReadVarint(&tag)) return false;
    bool good = false;
    ByteRange reference;
    switch (tag) {
      case TagFor(v1::Sample::kIdentityFieldNumber, kVarint):
        good = reader.ReadVarint(&sample->identity);
        break;
      case TagFor(v1::Sample::kSampleFieldNumber, kVarint):
        good = reader.ReadVarint(&sample->sample);
        break;
      case TagFor(v1::Sample::kCrc32CFieldNumber, kFixed32):
        good = reader.ReadFixed32(&sample->crc32c);
        break;
      case TagFor(v1::Sample::kEncodedFieldNumber, kBytes):
        good = reader.ReadRange(&sample->encoded);
        break;
      case TagFor(v1::Sample::kReferenceFieldNumber, kBytes):
        good = reader.ReadRange(&reference) && ParseReference(message, reference, sample);
        break;
      case TagFor(v1::Sample::kPixelsCrc32CFieldNumber, kFixed32):
        good = reader.ReadFixed32(&sample->pixels_crc32c);
        sample->has_pixels_crc32c = true;
        break;
      default:
        good = reader.SkipValue(tag & 7);
    }
    if (!good) return false;
  }
  return true;
}

// What the header says before the first sample comes, in the order of our server; any other order costs
// nothing but time.
struct Expected {
  uint64_t identities = 0, samples_per_identity = 0, part_index = 0, part_count = 0;

  uint64_t* FieldOf(uint64_t tag) {
    switch (tag) {
      case TagFor(v1::Batch::kIdentitiesPerBatchFieldNumber, kVarint):
        return &identities;
      case TagFor(v1::Batch::kSamplesPerIdentityFieldNumber, kVarint):
        return &samples_per_identity;
      case TagFor(v1::Batch::kPartIndexFieldNumber, kVarint):
        return &part_index;
      case TagFor(v1::Batch::kPartCountFieldNumber, kVarint):
        return &part_count;
      default:
        return nullptr;
    }
  }
  // Room for the whole batch in its first part, to which the others are joined. The numbers may be any: no
  // more than could be in the message.
  size_t Samples(uint64_t bytes_left) const {
    constexpr uint64_t kShortestSample = 8;
    constexpr uint64_t kMaxParts = 64, kMostReserved = 1 << 16;
    if (identities > bytes_left || samples_per_identity > bytes_left) return 0;
    const uint64_t all = identities * samples_per_identity;
    const uint64_t parts = std::min(std::max<uint64_t>(1, part_count), kMaxParts);
    const uint64_t most = bytes_left / kShortestSample + 1;
    const uint64_t wanted =
        part_index == 0 ? std::min(all, most * parts) : std::min(all / parts * 9 / 8 + 1, most);
    return std::min(wanted, kMostReserved);
  }
};

// What is neither samples nor pixels goes to `header`, byte by byte, for protobuf to read.
bool ParseFields(const MessageBytes& message, const ByteRange& range, std::vector<ReceivedSample>* samples,
                 ByteRange* pixels, std::string* header) {
  WireReader reader(message, range);
  std::string scratch;
  Expected expected;
  while (!reader.AtEnd()) {
    const ByteRange start = reader.Here(0);
    const uint64_t left = reader.left();
    uint64_t tag = 0;
    if (!reader.ReadVarint(&tag)) return false;
    if (tag == TagFor(v1::Batch::kSamplesFieldNumber, kBytes)) {
      ByteRange place;
      if (!reader.ReadRange(&place)) return false;
      if (samples->empty()) samples->reserve(expected.Samples(reader.left() + place.size));
      if (!ParseSample(message, place, &samples->emplace_back())) return false;
    } else if (tag == TagFor(v1::Batch::kPixelsFieldNumber, kBytes)) {
      if (!reader.ReadRange(pixels)) return false;
    } else {
      uint64_t* const number = expected.FieldOf(tag);
      if (!(number != nullptr ? reader.ReadVarint(number) : reader.SkipValue(tag & 7))) return false;
      const absl::string_view field =
          Contiguous(message, {start.piece, start.offset, left - reader.left()}, &scratch);
      header->append(field.data(), field.size());
    }
  }
  return true;
}

absl::Status DivideThePixels(const ByteRange& pixels, ReceivedBatch* batch) {
  const v1::ImageShape& shape = batch->header.image();
  const uint64_t each = uint64_t{shape.height()} * shape.width() * shape.channels();
  if (pixels.size != each * batch->samples.size()) {
    return absl::DataLossError(absl::StrCat("batch ", batch->cursor(), " has ", pixels.size,
                                            " bytes of pixels where ", batch->samples.size(), " samples of ",
                                            each, " were due"));
  }
  ByteRange rest = pixels;
  for (ReceivedSample& sample : batch->samples) {
    sample.pixels = {rest.piece, rest.offset, each};
    rest = SubRange(batch->parts[0], rest, each, rest.size - each);
  }
  return absl::OkStatus();
}

}  // namespace

absl::string_view ReceivedBatch::Encoded(size_t sample, std::string* scratch) const {
  return Contiguous(parts[samples[sample].part], samples[sample].encoded, scratch);
}

absl::string_view ReceivedBatch::ReferencePath(size_t sample, std::string* scratch) const {
  return Contiguous(parts[samples[sample].part], samples[sample].path, scratch);
}

void ReceivedBatch::CopyPixels(size_t sample, uint8_t* out) const {
  CopyTo(parts[samples[sample].part], samples[sample].pixels, reinterpret_cast<char*>(out));
}

absl::StatusOr<ReceivedBatch> ParseBatch(MessageBytes message, const ByteRange& range) {
  ReceivedBatch batch;
  batch.wire_bytes = range.size;
  std::string header;
  ByteRange pixels;
  if (!ParseFields(message, range, &batch.samples, &pixels, &header) ||
      !batch.header.ParseFromString(header)) {
    return absl::DataLossError("a message of the stream is not a Batch");
  }
  batch.parts.push_back(std::move(message));
  if (batch.header.payload() == v1::PAYLOAD_KIND_DECODED) {
    const absl::Status divided = DivideThePixels(pixels, &batch);
    if (!divided.ok()) return divided;
  }
  return batch;
}

std::vector<size_t> DamagedSamples(const ReceivedBatch& batch) {
  std::vector<size_t> damaged;
  const bool encoded = batch.header.payload() == v1::PAYLOAD_KIND_ENCODED;
  for (size_t i = 0; i < batch.samples.size(); ++i) {
    const ReceivedSample& sample = batch.samples[i];
    const MessageBytes& part = batch.parts[sample.part];
    if (encoded && Crc32cOf(part, sample.encoded) != sample.crc32c) damaged.push_back(i);
    if (sample.has_pixels_crc32c && Crc32cOf(part, sample.pixels) != sample.pixels_crc32c)
      damaged.push_back(i);
  }
  return damaged;
}

v1::Batch ToProto(const ReceivedBatch& batch) {
  v1::Batch proto = batch.header;
  std::string scratch;
  for (size_t i = 0; i < batch.samples.size(); ++i) {
    const ReceivedSample& from = batch.samples[i];
    v1::Sample* sample = proto.add_samples();
    sample->set_identity(from.identity);
    sample->set_sample(from.sample);
    sample->set_crc32c(from.crc32c);
    if (from.has_pixels_crc32c) sample->set_pixels_crc32c(from.pixels_crc32c);
    const absl::string_view encoded = batch.Encoded(i, &scratch);
    sample->set_encoded(encoded.data(), encoded.size());
    if (batch.header.payload() == v1::PAYLOAD_KIND_REFERENCE) {
      sample->mutable_reference()->set_path(std::string(batch.ReferencePath(i, &scratch)));
      sample->mutable_reference()->set_offset(from.offset);
      sample->mutable_reference()->set_size(from.size);
    }
    if (batch.header.payload() != v1::PAYLOAD_KIND_DECODED) continue;
    const absl::string_view pixels = Contiguous(batch.parts[from.part], from.pixels, &scratch);
    proto.mutable_pixels()->append(pixels.data(), pixels.size());
  }
  return proto;
}

absl::StatusOr<ReceivedBatch> FromProto(const v1::Batch& batch) {
  MessageBytes message = MessageOf(batch.SerializeAsString());
  const uint64_t size = message.size();
  return ParseBatch(std::move(message), {0, 0, size});
}

}  // namespace doppel
