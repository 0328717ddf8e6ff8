#include "services/miner_server/batch_builder.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/base/executor.h"
#include "common/base/status_macros.h"
#include "common/image/image.h"
#include "services/miner_server/similarity.h"
#include "services/miner_server/wire_message.h"

namespace doppel {
namespace {

constexpr uint64_t kLengthDelimited = 2;
constexpr uint64_t Tag(int field) { return static_cast<uint64_t>(field) << 3 | kLengthDelimited; }
constexpr uint64_t kEncodedTag = Tag(v1::Sample::kEncodedFieldNumber);
constexpr uint64_t kSampleTag = Tag(v1::Batch::kSamplesFieldNumber);
constexpr uint64_t kPixelsTag = Tag(v1::Batch::kPixelsFieldNumber);
// A protobuf message ends at 2 GiB.
constexpr uint64_t kMaxMessageBytes = (uint64_t{1} << 31) - (uint64_t{1} << 20);

// A length-delimited field, with its tag and length.
uint64_t FieldSize(uint64_t tag, uint64_t size) { return VarintSize(tag) + VarintSize(size) + size; }

// One sample before it is laid out: everything but the image bytes in `head`, in protobuf's own serialisation
// (`encoded` may follow it: a message has either that or the reference that comes after it).
struct PreparedSample {
  std::string head;
  SampleBytes bytes;

  uint64_t size() const {
    return head.size() + (bytes.data.empty() ? 0 : FieldSize(kEncodedTag, bytes.data.size()));
  }
};

absl::Status SampleError(const Catalog& catalog, uint64_t sample, const absl::Status& cause) {
  const uint64_t identity = catalog.Sample(sample).identity;
  return absl::Status(absl::StatusCode::kDataLoss,
                      absl::StrCat("sample ", sample, " (", catalog.SampleKey(sample), ") of identity ",
                                   identity, " (", catalog.IdentityName(identity), "): ", cause.message()));
}

// Has the pages in memory before gRPC's threads meet them: a page fault must not stop another stream.
void TouchPages(absl::string_view bytes) {
  constexpr size_t kPage = 4096;
  volatile char sink = 0;
  for (size_t i = 0; i < bytes.size(); i += kPage) sink = bytes[i];
  if (!bytes.empty()) sink = bytes.back();
  (void)sink;
}

absl::StatusOr<std::vector<PreparedSample>> PrepareSamples(const Catalog& catalog, v1::PayloadKind payload,
                                                           const PlannedBatch& planned,
                                                           const BuildOptions& options) {
  std::vector<PreparedSample> prepared(planned.samples.size());
  for (size_t i = 0; i < planned.samples.size(); ++i) {
    const uint64_t number = planned.samples[i];
    const SampleRecord record = catalog.Sample(number);
    v1::Sample sample;
    sample.set_identity(record.identity);
    sample.set_sample(number);
    sample.set_crc32c(record.crc32c);
    if (payload == v1::PAYLOAD_KIND_REFERENCE) {
      sample.mutable_reference()->set_path(catalog.SamplePath(number));
      sample.mutable_reference()->set_offset(record.offset);
      sample.mutable_reference()->set_size(record.size);
    }
    sample.SerializeToString(&prepared[i].head);
    if (payload == v1::PAYLOAD_KIND_ENCODED) {
      absl::StatusOr<SampleBytes> bytes = catalog.Read(number);
      if (!bytes.ok()) return SampleError(catalog, number, bytes.status());
      prepared[i].bytes = *std::move(bytes);
      if (prepared[i].bytes.data.size() >= options.borrow_bytes) TouchPages(prepared[i].bytes.data);
    }
  }
  return prepared;
}

// Borders of the parts: part i holds the samples [borders[i], borders[i + 1]).
std::vector<size_t> CutParts(const std::vector<PreparedSample>& samples, uint64_t header_bytes,
                             uint64_t sample_pixels, uint64_t part_bytes) {
  std::vector<size_t> borders = {0};
  uint64_t bytes = header_bytes;
  for (size_t i = 0; i < samples.size(); ++i) {
    const uint64_t size = FieldSize(kSampleTag, samples[i].size()) + sample_pixels;
    if (part_bytes > 0 && i > borders.back() && bytes + size > part_bytes) {
      borders.push_back(i);
      bytes = header_bytes;
    }
    bytes += size;
  }
  borders.push_back(samples.size());
  return borders;
}

v1::Batch MakeHeader(const Generation* generation, const v1::StreamSpec& spec, const PlannedBatch& planned) {
  v1::Batch header;
  header.set_generation(generation == nullptr ? 0 : generation->number());
  header.set_seed(spec.seed());
  header.set_cursor(planned.cursor);
  header.set_plan(spec.plan().name());
  header.set_subspace(planned.subspace);
  header.set_identities_per_batch(spec.plan().identities_per_batch());
  header.set_samples_per_identity(spec.plan().samples_per_identity());
  header.set_epoch(planned.epoch);
  const SimilarityStatistics similarity = BatchSimilarity(generation, planned.identities);
  header.set_mean_similarity(similarity.mean);
  header.set_max_similarity(similarity.max);
  header.set_payload(spec.payload());
  if (spec.payload() == v1::PAYLOAD_KIND_DECODED) *header.mutable_image() = spec.image();
  return header;
}

uint64_t SamplePixels(const v1::StreamSpec& spec) {
  if (spec.payload() != v1::PAYLOAD_KIND_DECODED) return 0;
  return uint64_t{spec.image().height()} * spec.image().width() * spec.image().channels();
}

// Decodes the samples straight into the buffer that will be sent.
absl::StatusOr<SampleBytes> DecodePixels(const Catalog& catalog, const v1::ImageShape& shape,
                                         absl::Span<const uint64_t> samples, uint64_t sample_pixels,
                                         int threads) {
  auto pixels = std::make_shared<std::string>();
  pixels->resize(samples.size() * sample_pixels);
  auto* out = reinterpret_cast<uint8_t*>(&(*pixels)[0]);
  absl::Mutex mutex;
  // The first in order, so that the error does not depend on threads.
  size_t failed = samples.size();
  absl::Status failure;
  ParallelFor(static_cast<int64_t>(samples.size()), 16, threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      absl::StatusOr<SampleBytes> bytes = catalog.Read(samples[i]);
      absl::Status status = bytes.status();
      if (status.ok()) {
        status =
            DecodeImageInto(bytes->data, static_cast<int>(shape.height()), static_cast<int>(shape.width()),
                            static_cast<int>(shape.channels()), out + i * sample_pixels);
      }
      if (status.ok()) continue;
      absl::MutexLock lock(&mutex);
      if (static_cast<size_t>(i) < failed) {
        failed = i;
        failure = SampleError(catalog, samples[i], status);
      }
    }
  });
  if (!failure.ok()) return failure;
  return SampleBytes{absl::string_view(*pixels), pixels};
}

grpc::ByteBuffer LayOut(const std::string& header, absl::Span<PreparedSample> samples, SampleBytes pixels,
                        const BuildOptions& options, uint64_t* bytes) {
  uint64_t batch_bytes = header.size();
  uint64_t borrowed = pixels.data.size();
  for (const PreparedSample& sample : samples) {
    batch_bytes += FieldSize(kSampleTag, sample.size());
    if (sample.bytes.data.size() >= options.borrow_bytes) borrowed += sample.bytes.data.size();
  }
  if (!pixels.data.empty()) batch_bytes += FieldSize(kPixelsTag, pixels.data.size());
  int outer_field = v1::StreamBatchesResponse::kBatchFieldNumber;
  if (options.envelope == BatchEnvelope::kGetBatch) outer_field = v1::GetBatchResponse::kBatchFieldNumber;
  const uint64_t outer = Tag(outer_field);
  *bytes = FieldSize(outer, batch_bytes);

  WireMessage message(*bytes - borrowed);
  message.AppendVarint(outer);
  message.AppendVarint(batch_bytes);
  message.Append(header);
  for (PreparedSample& sample : samples) {
    message.AppendVarint(kSampleTag);
    message.AppendVarint(sample.size());
    message.Append(sample.head);
    const absl::string_view data = sample.bytes.data;
    if (data.empty()) continue;
    message.AppendVarint(kEncodedTag);
    message.AppendVarint(data.size());
    if (data.size() >= options.borrow_bytes) {
      message.Borrow(std::move(sample.bytes));
    } else {
      message.Append(data);
    }
  }
  if (!pixels.data.empty()) {
    message.AppendVarint(kPixelsTag);
    message.AppendVarint(pixels.data.size());
    message.Borrow(std::move(pixels));
  }
  return message.Finish();
}

}  // namespace

absl::StatusOr<WireBatch> BuildBatch(const Catalog& catalog, const Generation* generation,
                                     const v1::StreamSpec& spec, const PlannedBatch& planned,
                                     const BuildOptions& options) {
  ASSIGN_OR_RETURN(std::vector<PreparedSample> samples,
                   PrepareSamples(catalog, spec.payload(), planned, options));
  v1::Batch header = MakeHeader(generation, spec, planned);
  const uint64_t sample_pixels = SamplePixels(spec);
  // The part numbers and the tags around it come on top of the header: 32 bytes are plenty.
  const std::vector<size_t> borders =
      CutParts(samples, header.ByteSizeLong() + 32, sample_pixels, options.part_bytes);

  WireBatch batch;
  batch.samples = samples.size();
  header.set_part_count(static_cast<uint32_t>(borders.size() - 1));
  for (size_t part = 0; part + 1 < borders.size(); ++part) {
    const size_t begin = borders[part], count = borders[part + 1] - begin;
    uint64_t payload_bytes = count * sample_pixels;
    for (size_t i = begin; i < begin + count; ++i) payload_bytes += samples[i].size() + 16;
    if (payload_bytes > kMaxMessageBytes) {
      return absl::ResourceExhaustedError(absl::StrCat("batch ", planned.cursor, ": ", payload_bytes,
                                                       " bytes are more than one message holds (2 GiB): "
                                                       "stream it, or ask for smaller batches or images"));
    }
    SampleBytes pixels;
    if (sample_pixels > 0) {
      ASSIGN_OR_RETURN(pixels, DecodePixels(catalog, spec.image(),
                                            absl::MakeConstSpan(planned.samples).subspan(begin, count),
                                            sample_pixels, options.decode_threads));
    }
    header.set_part_index(static_cast<uint32_t>(part));
    uint64_t bytes = 0;
    batch.parts.push_back(LayOut(header.SerializeAsString(), absl::MakeSpan(samples).subspan(begin, count),
                                 std::move(pixels), options, &bytes));
    batch.bytes += bytes;
  }
  return batch;
}

}  // namespace doppel
