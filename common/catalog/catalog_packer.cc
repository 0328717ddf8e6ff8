#include "common/catalog/catalog_packer.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/base/executor.h"
#include "common/base/progress.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog_writer.h"
#include "common/catalog/entry_collector.h"
#include "common/catalog/shard_writer.h"
#include "common/io/crc32c.h"

namespace doppel {
namespace {

// One sample on its way.
struct Packed {
  uint64_t sample = 0;
  absl::Status status;
  SampleBytes bytes;
  std::string raw;
  uint32_t crc32c = 0;
  absl::string_view content() const { return raw.empty() ? bytes.data : absl::string_view(raw); }
};

const char* ExtensionOf(absl::string_view bytes) {
  if (absl::StartsWith(bytes, "\x89PNG")) return "png";
  if (absl::StartsWith(bytes, "\xFF\xD8")) return "jpg";
  if (absl::StartsWith(bytes, "RIFF")) return "webp";
  if (absl::StartsWith(bytes, "BM")) return "bmp";
  return absl::StartsWith(bytes, "P5") ? "pgm" : "ppm";
}

class Packing {
 public:
  Packing(const Catalog& catalog, std::string temporary, const PackOptions& options, FileSystem& fs)
      : catalog_(catalog),
        temporary_(std::move(temporary)),
        options_(options),
        fs_(fs),
        shape_(options.raw.bytes() > 0 ? options.raw : catalog.RawShape(0)),
        progress_({"pack", "samples", catalog.num_samples(), stderr, options.quiet}) {}

  absl::Status Run() {
    // An appended catalog's splits are several ranges each.
    for (const CatalogSplitInfo& split : catalog_.sorted_ranges()) {
      const uint64_t end = split.first_identity + split.identities;
      for (uint64_t identity = split.first_identity; identity < end;) {
        const uint64_t first = identity;
        identity = EndOfBatch(first, end);
        RETURN_IF_ERROR(PackIdentities(split.name, first, identity));
      }
    }
    progress_.Finish();
    return CloseShard();
  }

  EntryCollector& entries() { return entries_; }
  const std::vector<v1::CatalogSource>& sources() const { return sources_; }
  std::vector<SkippedRecord> TakeSkipped() { return std::move(skipped_); }

 private:
  uint64_t BytesOf(uint64_t sample) const {
    return options_.raw.bytes() > 0 ? options_.raw.bytes() : catalog_.Sample(sample).size;
  }
  // Identities [first, result) fit a batch; at least one.
  uint64_t EndOfBatch(uint64_t first, uint64_t end) const {
    uint64_t bytes = 0, samples = 0, identity = first;
    while (identity < end &&
           (identity == first || (bytes < kPackedAtOnceBytes && samples < kPackedAtOnceSamples))) {
      const IdentitySamples range = catalog_.Samples(identity++);
      for (uint64_t j = 0; j < range.count; ++j) bytes += BytesOf(range[j]);
      samples += range.count;
    }
    return identity;
  }

  void Load(Packed* packed) const {
    absl::StatusOr<SampleBytes> bytes = catalog_.ReadChecked(packed->sample);
    packed->status = bytes.status();
    if (!bytes.ok()) return;
    packed->bytes = *std::move(bytes);
    packed->crc32c = catalog_.Sample(packed->sample).crc32c;
    if (options_.raw.bytes() == 0) return;
    std::string raw = PnmHeader(options_.raw);
    const size_t header = raw.size();
    raw.resize(header + options_.raw.bytes());
    packed->status = options_.decode(packed->bytes.data, options_.raw, raw.data() + header);
    if (!packed->status.ok()) {
      packed->status =
          absl::Status(packed->status.code(), absl::StrCat("sample ", packed->sample, " (",
                                                           absl::CEscape(catalog_.SampleKey(packed->sample)),
                                                           "): ", packed->status.message()));
      return;
    }
    packed->bytes = {};
    packed->crc32c = Crc32c(raw);
    packed->raw = std::move(raw);
  }

  absl::Status PackIdentities(const std::string& split, uint64_t first, uint64_t end) {
    std::vector<Packed> batch;
    for (uint64_t identity = first; identity < end; ++identity) {
      const IdentitySamples range = catalog_.Samples(identity);
      for (uint64_t j = 0; j < range.count; ++j) batch.emplace_back().sample = range[j];
    }
    ParallelFor(static_cast<int64_t>(batch.size()), 64, options_.threads, [&](int64_t from, int64_t to) {
      for (int64_t i = from; i < to; ++i) Load(&batch[i]);
    });
    const Packed* next = batch.data();
    for (uint64_t identity = first; identity < end; ++identity) {
      const uint32_t count = catalog_.Samples(identity).count;
      RETURN_IF_ERROR(WriteIdentity(split, std::string(catalog_.IdentityName(identity)), next, count));
      next += count;
    }
    progress_.Add(batch.size());
    return absl::OkStatus();
  }

  absl::Status WriteIdentity(const std::string& split, const std::string& name, const Packed* samples,
                             uint64_t count) {
    std::vector<std::string> metadata(count);
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < count; ++i) {
      metadata[i] = PackedMetadata(name, split, std::string(catalog_.SampleKey(samples[i].sample)));
      bytes += TarMemberBytes(samples[i].content().size()) + TarMemberBytes(metadata[i].size());
    }
    if (shard_ == nullptr || (shard_->size() > 0 && shard_->size() + bytes > options_.shard_bytes)) {
      RETURN_IF_ERROR(OpenShard());
    }
    for (uint64_t i = 0; i < count; ++i) {
      if (samples[i].status.ok()) {
        RETURN_IF_ERROR(WriteSample(split, name, samples[i], metadata[i]));
      } else if (options_.skip_damaged) {
        skipped_.push_back({catalog_.SamplePath(samples[i].sample),
                            std::string(catalog_.SampleKey(samples[i].sample)), "damaged",
                            std::string(samples[i].status.message())});
      } else {
        return absl::Status(
            samples[i].status.code(),
            absl::StrCat(samples[i].status.message(), ". --skip-damaged leaves such samples out"));
      }
    }
    return absl::OkStatus();
  }

  absl::Status WriteSample(const std::string& split, const std::string& name, const Packed& packed,
                           const std::string& metadata) {
    SampleEntry entry;
    entry.split = split;
    entry.identity = name;
    entry.key = std::string(catalog_.SampleKey(packed.sample));
    entry.source = static_cast<uint32_t>(sources_.size() - 1);
    entry.size = static_cast<uint32_t>(packed.content().size());
    entry.crc32c = packed.crc32c;
    const std::string stem = absl::StrFormat("%09d", packed.sample);
    RETURN_IF_ERROR(
        shard_->Add(absl::StrCat(stem, ".", ExtensionOf(packed.content())), packed.content(), &entry.offset));
    uint64_t ignored;
    RETURN_IF_ERROR(shard_->Add(stem + ".json", metadata, &ignored));
    return entries_.Add(entry);
  }

  absl::Status OpenShard() {
    RETURN_IF_ERROR(CloseShard());
    v1::CatalogSource& source = sources_.emplace_back();
    source.set_kind(v1::CatalogSource::KIND_FILE);
    source.set_path(absl::StrFormat("pack-%06d.tar", sources_.size() - 1));
    if (shape_.bytes() > 0) {
      source.mutable_raw_pixels()->set_height(shape_.height);
      source.mutable_raw_pixels()->set_width(shape_.width);
      source.mutable_raw_pixels()->set_channels(shape_.channels);
    }
    ASSIGN_OR_RETURN(shard_, ShardWriter::Create(fs_, absl::StrCat(temporary_, "/", source.path())));
    return absl::OkStatus();
  }

  absl::Status CloseShard() {
    if (shard_ == nullptr) return absl::OkStatus();
    RETURN_IF_ERROR(shard_->Finish());
    sources_.back().set_size(shard_->size());
    shard_.reset();
    return absl::OkStatus();
  }

  const Catalog& catalog_;
  const std::string temporary_;
  const PackOptions& options_;
  FileSystem& fs_;
  const PixelShape shape_;
  Progress progress_;
  std::unique_ptr<ShardWriter> shard_;
  std::vector<v1::CatalogSource> sources_;
  EntryCollector entries_;
  std::vector<SkippedRecord> skipped_;
};

absl::Status CheckRawShape(const PackOptions& options) {
  constexpr uint32_t kMaxRawSide = 1 << 14;
  const PixelShape& raw = options.raw;
  if (raw.height == 0 && raw.width == 0 && raw.channels == 0) return absl::OkStatus();
  if (raw.height - 1 < kMaxRawSide && raw.width - 1 < kMaxRawSide &&
      (raw.channels == 1 || raw.channels == 3) && options.decode) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("raw pixels of ", raw.height, "x", raw.width, " with ",
                                                 raw.channels, " channels: sides of 1 to ", kMaxRawSide,
                                                 " and 1 or 3 channels are possible"));
}

}  // namespace

std::string PnmHeader(const PixelShape& shape) {
  return absl::StrCat(shape.channels == 1 ? "P5" : "P6", "\n", shape.width, " ", shape.height, "\n255\n");
}

std::string PackedMetadata(const std::string& identity, const std::string& split, const std::string& key) {
  const nlohmann::ordered_json json = {{"identity", identity}, {"split", split}, {"key", key}};
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

absl::StatusOr<PackSummary> PackCatalog(const Catalog& catalog, const std::string& target,
                                        const PackOptions& options, FileSystem& fs) {
  const absl::Time start = Clock::Real().Now();
  const std::string directory = CatalogDirectory(target);
  RETURN_IF_ERROR(CheckRawShape(options));
  RETURN_IF_ERROR(RestoreOldCatalog(fs, directory));
  PackSummary summary;
  bool unchanged;
  RETURN_IF_ERROR(CheckCatalogTarget(fs, directory, summary.manifest, options.force, &unchanged));

  const std::string temporary = TemporaryCatalog(directory);
  if (fs.Exists(temporary)) RETURN_IF_ERROR(fs.RemoveRecursively(temporary));
  RETURN_IF_ERROR(fs.MakeDirectories(temporary));
  Packing packing(catalog, temporary, options, fs);
  RETURN_IF_ERROR(packing.Run());
  summary.skipped = packing.TakeSkipped();
  for (const SkippedRecord& skip : summary.skipped) ++summary.skipped_by_reason[skip.reason];
  EntryCollector& entries = packing.entries();
  entries.Sort();
  if (entries.num_samples() == 0) {
    return absl::InvalidArgumentError(absl::StrCat("no sample of ", catalog.directory(), " can be used"));
  }
  summary.manifest = MakeCatalogManifest("packed", packing.sources(), entries, summary.skipped.size());
  RETURN_IF_ERROR(WriteCatalogTables(fs, temporary, entries, summary.skipped, &summary.manifest));
  RETURN_IF_ERROR(PublishCatalog(fs, directory, summary.manifest));
  summary.shards = packing.sources().size();
  for (const v1::CatalogSource& source : packing.sources()) summary.bytes += source.size();
  summary.seconds = absl::ToDoubleSeconds(Clock::Real().Now() - start);
  return summary;
}

}  // namespace doppel
