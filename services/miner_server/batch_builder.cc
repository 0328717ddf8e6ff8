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
#include "services/miner_server/wire_reference.h"
#include "services/miner_server/wire_sample.h"

namespace doppel {
namespace {

constexpr uint64_t LengthDelimitedTag(int field) { return static_cast<uint64_t>(field) << 3 | 2; }
constexpr uint64_t kPixelsTag = LengthDelimitedTag(v1::Batch::kPixelsFieldNumber);
// A protobuf message ends at 2 GiB.
constexpr uint64_t kMaxMessageBytes = (uint64_t{1} << 31) - (uint64_t{1} << 20);
// Tag and length around a batch.
constexpr size_t kMaxOuterBytes = 16;
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

// The samples [begin, end) of a batch, as one message.
struct Cut {
  size_t begin = 0, end = 0;
  uint64_t field_bytes = 0;     // of their fields
  uint64_t borrowed_bytes = 0;  // thereof
};

std::vector<Cut> CutParts(absl::Span<const WireSample> samples, v1::PayloadKind payload,
                          uint64_t header_bytes, uint64_t sample_pixels, const BuildOptions& options) {
  std::vector<Cut> cuts(1);
  const uint64_t limit = options.part_bytes > 0 ? options.part_bytes : UINT64_MAX;
  uint64_t bytes = header_bytes;
  for (size_t i = 0; i < samples.size(); ++i) {
    const uint64_t field_bytes = SampleFieldBytes(samples[i]);
    const uint64_t size = field_bytes + sample_pixels;
    if (bytes + size > limit && i > cuts.back().begin) {
      cuts.back().end = i;
      cuts.emplace_back().begin = i;
      bytes = header_bytes;
    }
    bytes += size;
    cuts.back().field_bytes += field_bytes;
    cuts.back().borrowed_bytes += SampleBorrowedBytes(samples[i], payload, options.borrow_bytes);
  }
  cuts.back().end = samples.size();
  return cuts;
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
  if (planned.decision.has_value()) *header.mutable_decision() = *planned.decision;
  if (planned.subspace_stage.has_value()) {
    header.set_subspace_stage(*planned.subspace_stage);
    header.set_subspace_share(static_cast<float>(planned.subspace_share));
  }
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
  Cut cut;
  absl::Span<const WireSample> samples;
  PixelSource* pixels = nullptr;  // DECODED
};

uint64_t OuterTag(BatchEnvelope envelope) {
  if (envelope == BatchEnvelope::kGetBatch) {
    return LengthDelimitedTag(v1::GetBatchResponse::kBatchFieldNumber);
  }
  return LengthDelimitedTag(v1::StreamBatchesResponse::kBatchFieldNumber);
}

absl::StatusOr<grpc::ByteBuffer> LayOut(const Part& part, BufferPool& pool, const v1::StreamSpec& spec,
                                        const BuildOptions& options, uint64_t* bytes) {
  const v1::PayloadKind payload = spec.payload();
  const uint64_t pixel_bytes = part.pixels == nullptr ? 0 : part.samples.size() * part.pixels->sample_bytes();
  uint64_t batch_bytes = part.header.size() + part.cut.field_bytes;
  uint64_t copied = batch_bytes - part.cut.borrowed_bytes;
  if (pixel_bytes > 0) {
    batch_bytes += FieldSize(kPixelsTag, pixel_bytes);
    copied += FieldSize(kPixelsTag, pixel_bytes) - pixel_bytes + part.pixels->CopiedBytes(part.samples);
  }
  const uint64_t outer = OuterTag(options.envelope);
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
    RETURN_IF_ERROR(part.pixels->Append(part.samples, part.cut.begin, pixel_crcs, message));
  }
  return message.Finish();
}

}  // namespace

// REFERENCE, the usual case: samples in mapped files, and one part. Their bytes are written first, and in
// front of them what depends on how many there are.
std::optional<WireBatch> BatchBuilder::BuildReferences(v1::Batch header, const PlannedBatch& planned,
                                                       const BuildOptions& options, WireSamples& scratch) {
  header.set_part_count(1);
  header.set_part_index(0);
  const std::string header_bytes = header.SerializeAsString();
  const size_t front = header_bytes.size() + kMaxOuterBytes;
  const size_t most = planned.samples.size() * kMaxReferenceBytes;
  if (options.part_bytes > 0 && front + most > options.part_bytes) return std::nullopt;
  if (front + most > kMaxMessageBytes) return std::nullopt;
  WireMessage message(*pool_, front + most);
  message.Reserve(front);
  const absl::Span<const SampleRecord> records = scratch.Records(*shards_.catalog(), planned.samples);
  if (!AppendReferences(shards_, planned.samples, records, message)) return std::nullopt;

  const uint64_t outer = OuterTag(options.envelope);
  const uint64_t batch_bytes = message.appended() - kMaxOuterBytes;
  WireBatch batch;
  batch.samples = planned.samples.size();
  batch.bytes = FieldSize(outer, batch_bytes);
  char* const end = message.next();
  message.DropFront(message.appended() - batch.bytes);
  message.set_next(end - batch.bytes);
  message.AppendVarint(outer);
  message.AppendVarint(batch_bytes);
  message.Append(header_bytes);
  message.set_next(end);
  batch.parts.push_back(message.Finish());
  return batch;
}

absl::StatusOr<WireBatch> BatchBuilder::Build(const Generation* generation, const v1::StreamSpec& spec,
                                              const PlannedBatch& planned, const BuildOptions& options) {
  WireSampleScratch::Lease scratch(&scratch_);
  v1::Batch header = MakeHeader(generation, spec, planned);
  if (spec.payload() == v1::PAYLOAD_KIND_REFERENCE) {
    std::optional<WireBatch> references = BuildReferences(header, planned, options, *scratch);
    if (references.has_value()) return *std::move(references);
  }
  RETURN_IF_ERROR((*scratch).Find(shards_, spec.payload(), planned.samples));
  const absl::Span<const WireSample> samples = (*scratch).found();
  std::unique_ptr<PixelSource> pixels;
  if (spec.payload() == v1::PAYLOAD_KIND_DECODED) {
    pixels = std::make_unique<PixelSource>(*shards_.catalog(), spec, planned.cursor, options);
  }
  const uint64_t sample_pixels = pixels == nullptr ? 0 : pixels->sample_bytes();
  // The part numbers and the tags around it come on top of the header: 32 bytes are plenty.
  const std::vector<Cut> cuts =
      CutParts(samples, spec.payload(), header.ByteSizeLong() + 32, sample_pixels, options);

  WireBatch batch;
  batch.samples = samples.size();
  batch.parts.reserve(cuts.size());
  header.set_part_count(static_cast<uint32_t>(cuts.size()));
  for (size_t i = 0; i < cuts.size(); ++i) {
    Part part;
    part.cut = cuts[i];
    part.samples = samples.subspan(cuts[i].begin, cuts[i].end - cuts[i].begin);
    part.pixels = pixels.get();
    const uint64_t payload_bytes = part.cut.field_bytes + part.samples.size() * sample_pixels;
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
