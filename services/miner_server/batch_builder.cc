#include "services/miner_server/batch_builder.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "services/miner_server/batch_pixels.h"
#include "services/miner_server/similarity.h"
#include "services/miner_server/wire_message.h"
#include "services/miner_server/wire_sample.h"

namespace doppel {
namespace {

constexpr uint64_t LengthDelimitedTag(int field) { return static_cast<uint64_t>(field) << 3 | 2; }
constexpr uint64_t kPixelsTag = LengthDelimitedTag(v1::Batch::kPixelsFieldNumber);
// A protobuf message ends at 2 GiB.
constexpr uint64_t kMaxMessageBytes = (uint64_t{1} << 31) - (uint64_t{1} << 20);
constexpr size_t kPrefetchDistance = 6;
constexpr size_t kPrefetchBytes = 1024;
// Cheaper to read than to seek over.
constexpr uint64_t kReadOverBytes = uint64_t{64} << 10;

// A length-delimited field, with its tag and length.
uint64_t FieldSize(uint64_t tag, uint64_t size) { return VarintSize(tag) + VarintSize(size) + size; }

// Has the pages in memory before gRPC's threads meet them: a page fault must not stop another stream.
void TouchPages(absl::string_view bytes) {
  constexpr size_t kPage = 4096;
  volatile char sink = 0;
  for (size_t i = 0; i < bytes.size(); i += kPage) sink = bytes[i];
  if (!bytes.empty()) sink = bytes.back();
  (void)sink;
}

// Samples lie anywhere: each would wait for the memory. What follows, the processor sees by itself.
void Prefetch(absl::string_view bytes) {
  constexpr size_t kLine = 64;
  const size_t end = std::min(bytes.size(), kPrefetchBytes);
  for (size_t i = 0; i < end; i += kLine) __builtin_prefetch(bytes.data() + i);
}

// Borders of the parts: part i holds the samples [borders[i], borders[i + 1]).
std::vector<size_t> CutParts(const std::vector<WireSample>& samples, uint64_t header_bytes,
                             uint64_t sample_pixels, uint64_t part_bytes) {
  std::vector<size_t> borders = {0};
  uint64_t bytes = header_bytes;
  for (size_t i = 0; i < samples.size(); ++i) {
    const uint64_t size = SampleFieldBytes(samples[i]) + sample_pixels;
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
  header.set_drawn_by(planned.drawn_by);
  header.set_hard_share(static_cast<float>(planned.hard_share));
  const SimilarityStatistics similarity = BatchSimilarity(generation, planned.identities);
  header.set_mean_similarity(similarity.mean);
  header.set_max_similarity(similarity.max);
  header.set_payload(spec.payload());
  if (spec.payload() == v1::PAYLOAD_KIND_DECODED) *header.mutable_image() = spec.image();
  return header;
}

// What one message is made of.
struct Part {
  std::string header;
  absl::Span<const WireSample> samples;
  uint64_t first_position = 0;    // in the batch
  PixelSource* pixels = nullptr;  // DECODED
};

absl::StatusOr<grpc::ByteBuffer> LayOut(const Part& part, BufferPool& pool, const v1::StreamSpec& spec,
                                        const BuildOptions& options, uint64_t* bytes) {
  const v1::PayloadKind payload = spec.payload();
  const uint64_t pixel_bytes = part.pixels == nullptr ? 0 : part.samples.size() * part.pixels->sample_bytes();
  uint64_t batch_bytes = part.header.size();
  uint64_t copied = part.header.size();
  for (const WireSample& sample : part.samples) {
    batch_bytes += SampleFieldBytes(sample);
    copied += SampleCopiedBytes(sample, payload, options.borrow_bytes);
  }
  if (pixel_bytes > 0) {
    batch_bytes += FieldSize(kPixelsTag, pixel_bytes);
    copied += FieldSize(kPixelsTag, pixel_bytes) - pixel_bytes + part.pixels->CopiedBytes(part.samples);
  }
  int outer_field = v1::StreamBatchesResponse::kBatchFieldNumber;
  if (options.envelope == BatchEnvelope::kGetBatch) outer_field = v1::GetBatchResponse::kBatchFieldNumber;
  const uint64_t outer = LengthDelimitedTag(outer_field);
  *bytes = FieldSize(outer, batch_bytes);

  WireMessage message(pool, copied + (*bytes - batch_bytes));
  message.AppendVarint(outer);
  message.AppendVarint(batch_bytes);
  message.Append(part.header);
  std::vector<char*> pixel_crcs;
  if (pixel_bytes > 0) pixel_crcs.reserve(part.samples.size());
  for (size_t i = 0; i < part.samples.size(); ++i) {
    const WireSample& sample = part.samples[i];
    if (payload == v1::PAYLOAD_KIND_ENCODED && i + kPrefetchDistance < part.samples.size()) {
      Prefetch(part.samples[i + kPrefetchDistance].bytes);
    }
    char* const pixel_crc = AppendSample(sample, payload, options.borrow_bytes, message);
    if (pixel_bytes > 0) pixel_crcs.push_back(pixel_crc);
    if (payload == v1::PAYLOAD_KIND_ENCODED && sample.bytes.size() >= options.borrow_bytes) {
      TouchPages(sample.bytes);
    }
  }
  if (pixel_bytes > 0) {
    message.AppendVarint(kPixelsTag);
    message.AppendVarint(pixel_bytes);
    RETURN_IF_ERROR(part.pixels->Append(part.samples, part.first_position, pixel_crcs, message));
  }
  return message.Finish();
}

}  // namespace

absl::StatusOr<WireBatch> BatchBuilder::Build(const Generation* generation, const v1::StreamSpec& spec,
                                              const PlannedBatch& planned, const BuildOptions& options) {
  WireSampleScratch::Lease scratch(&scratch_);
  RETURN_IF_ERROR(FindSamples(shards_, spec.payload(), planned.samples, &*scratch));
  const std::vector<WireSample>& samples = *scratch;
  v1::Batch header = MakeHeader(generation, spec, planned);
  std::unique_ptr<PixelSource> pixels;
  if (spec.payload() == v1::PAYLOAD_KIND_DECODED) {
    pixels = std::make_unique<PixelSource>(*shards_.catalog(), spec, planned.cursor, options);
  }
  const uint64_t sample_pixels = pixels == nullptr ? 0 : pixels->sample_bytes();
  // The part numbers and the tags around it come on top of the header: 32 bytes are plenty.
  const std::vector<size_t> borders =
      CutParts(samples, header.ByteSizeLong() + 32, sample_pixels, options.part_bytes);

  WireBatch batch;
  batch.samples = samples.size();
  batch.parts.reserve(borders.size() - 1);
  header.set_part_count(static_cast<uint32_t>(borders.size() - 1));
  for (size_t i = 0; i + 1 < borders.size(); ++i) {
    Part part;
    part.samples = absl::MakeConstSpan(samples).subspan(borders[i], borders[i + 1] - borders[i]);
    part.first_position = borders[i];
    part.pixels = pixels.get();
    uint64_t payload_bytes = part.samples.size() * sample_pixels;
    for (const WireSample& sample : part.samples) payload_bytes += SampleFieldBytes(sample);
    if (payload_bytes > kMaxMessageBytes) {
      return absl::ResourceExhaustedError(absl::StrCat("batch ", planned.cursor, ": ", payload_bytes,
                                                       " bytes are more than one message holds (2 GiB): "
                                                       "stream it, or ask for smaller batches or images"));
    }
    header.set_part_index(static_cast<uint32_t>(i));
    part.header = header.SerializeAsString();
    uint64_t bytes = 0;
    ASSIGN_OR_RETURN(grpc::ByteBuffer message, LayOut(part, *pool_, spec, options, &bytes));
    batch.parts.push_back(std::move(message));
    batch.bytes += bytes;
  }
  return batch;
}

void BatchBuilder::ReadAhead(const PlannedBatch& planned) {
  const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  std::vector<std::pair<uintptr_t, uintptr_t>> ranges;
  ranges.reserve(planned.samples.size());
  for (const uint64_t number : planned.samples) {
    const SampleRecord record = shards_.catalog()->Sample(number);
    const ShardTable::Shard* shard = shards_.Find(record.source, number);
    if (shard == nullptr || record.offset > shard->source.bytes.size() ||
        record.size > shard->source.bytes.size() - record.offset) {
      continue;
    }
    const auto begin = reinterpret_cast<uintptr_t>(shard->source.bytes.data()) + record.offset;
    ranges.emplace_back(begin / page * page, begin + record.size);
  }
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 0; i < ranges.size();) {
    const uintptr_t begin = ranges[i].first;
    uintptr_t end = ranges[i].second;
    for (++i; i < ranges.size() && ranges[i].first <= end + kReadOverBytes; ++i) {
      end = std::max(end, ranges[i].second);
    }
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_WILLNEED);
  }
}

}  // namespace doppel
