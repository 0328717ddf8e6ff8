#include "common/catalog/raw_appending.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/base/executor.h"
#include "common/base/status_macros.h"
#include "common/io/crc32c.h"

namespace doppel {
bool IsAppendedShard(absl::string_view name) {
  const std::vector<absl::string_view> parts = absl::StrSplit(name, '-');
  const auto number = [](absl::string_view text) {
    return !text.empty() && std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
  };
  return parts.size() == 3 && parts[0] == "pack" && number(parts[1]) && absl::ConsumeSuffix(&name, ".tar") &&
         number(name.substr(name.rfind('-') + 1));
}

// One sample on its way.
struct RawAppending::Pending {
  const IdentityAddition* addition = nullptr;
  const EntryCollector::Sample* sample = nullptr;
  absl::StatusOr<std::string> image = std::string();
};

RawAppending::RawAppending(FileSystem& fs, const std::string& directory, const DatasetReader& dataset,
                           const EntryCollector& entries, Options options)
    : fs_(fs),
      directory_(directory),
      dataset_(dataset),
      entries_(entries),
      options_(std::move(options)),
      files_(dataset.sources(), directory),
      next_sample_(options_.first_sample) {}

absl::StatusOr<std::string> RawAppending::Convert(const EntryCollector::Sample& sample) const {
  ASSIGN_OR_RETURN(const SampleBytes encoded,
                   files_.Read(sample.source, sample.key(), sample.offset, sample.size));
  if (Crc32c(encoded.data) != sample.crc32c) {
    return absl::DataLossError(absl::StrCat(absl::CEscape(files_.Path(sample.source, sample.key())), ": ",
                                            absl::CEscape(sample.key()),
                                            " changes while it is imported: import it again"));
  }
  std::string image = PnmHeader(options_.shape);
  const size_t header = image.size();
  image.resize(header + options_.shape.bytes());
  const absl::Status status = options_.decode(encoded.data, options_.shape, image.data() + header);
  if (!status.ok()) return absl::InvalidArgumentError(status.message());
  return image;
}

absl::StatusOr<bool> RawAppending::Same(const SampleRecord& record,
                                        const EntryCollector::Sample& sample) const {
  ASSIGN_OR_RETURN(const std::string image, Convert(sample));
  return record.size == image.size() && record.crc32c == Crc32c(image);
}

absl::Status RawAppending::Write(const std::vector<IdentityAddition>& additions,
                                 std::vector<SkippedRecord>* skipped) {
  const uint64_t most =
      std::clamp<uint64_t>(kPackedAtOnceBytes / options_.shape.bytes(), uint64_t{1}, kPackedAtOnceSamples);
  std::vector<Pending> batch;
  for (const IdentityAddition& addition : additions) {
    for (const uint64_t entry : addition.entries) {
      batch.push_back({&addition, &entries_.sample(entry)});
      if (batch.size() == most) RETURN_IF_ERROR(WriteBatch(&batch, skipped));
    }
  }
  RETURN_IF_ERROR(WriteBatch(&batch, skipped));
  RETURN_IF_ERROR(CloseShard());
  converted_.Sort();
  return absl::OkStatus();
}

absl::Status RawAppending::WriteBatch(std::vector<Pending>* batch, std::vector<SkippedRecord>* skipped) {
  ParallelFor(static_cast<int64_t>(batch->size()), 16, options_.threads, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) (*batch)[i].image = Convert(*(*batch)[i].sample);
  });
  for (const Pending& pending : *batch) {
    if (absl::IsInvalidArgument(pending.image.status())) {
      skipped->push_back({dataset_.sources()[pending.sample->source].path(),
                          std::string(pending.sample->key()), "corrupt image",
                          std::string(pending.image.status().message())});
      continue;
    }
    RETURN_IF_ERROR(pending.image.status());
    RETURN_IF_ERROR(WriteSample(pending));
  }
  batch->clear();
  return absl::OkStatus();
}

absl::Status RawAppending::WriteSample(const Pending& pending) {
  SampleEntry entry;
  entry.split = std::string(pending.addition->split);
  entry.identity = std::string(pending.addition->name);
  entry.key = std::string(pending.sample->key());
  entry.size = static_cast<uint32_t>(pending.image->size());
  entry.crc32c = Crc32c(*pending.image);
  const std::string metadata = PackedMetadata(entry.identity, entry.split, entry.key);
  const uint64_t bytes = TarMemberBytes(entry.size) + TarMemberBytes(metadata.size());
  if (sources_.empty() || sources_.back().size() + bytes > options_.shard_bytes) RETURN_IF_ERROR(OpenShard());
  entry.source = static_cast<uint32_t>(sources_.size() - 1);
  sources_.back().set_size(sources_.back().size() + bytes);
  const std::string stem = absl::StrFormat("%09d", next_sample_++);
  if (shard_ != nullptr) {
    RETURN_IF_ERROR(shard_->Add(absl::StrCat(stem, options_.shape.channels == 1 ? ".pgm" : ".ppm"),
                                *pending.image, &entry.offset));
    uint64_t ignored;
    RETURN_IF_ERROR(shard_->Add(stem + ".json", metadata, &ignored));
  }
  return converted_.Add(entry);
}

absl::Status RawAppending::OpenShard() {
  RETURN_IF_ERROR(CloseShard());
  v1::CatalogSource& source = sources_.emplace_back();
  source.set_kind(v1::CatalogSource::KIND_FILE);
  source.set_path(absl::StrFormat("pack-%d-%06d.tar", options_.version, sources_.size() - 1));
  source.mutable_raw_pixels()->set_height(options_.shape.height);
  source.mutable_raw_pixels()->set_width(options_.shape.width);
  source.mutable_raw_pixels()->set_channels(options_.shape.channels);
  if (options_.dry_run) return absl::OkStatus();
  ASSIGN_OR_RETURN(shard_, ShardWriter::Create(fs_, absl::StrCat(directory_, "/", source.path())));
  return absl::OkStatus();
}

absl::Status RawAppending::CloseShard() {
  if (shard_ == nullptr) return absl::OkStatus();
  RETURN_IF_ERROR(shard_->Finish());
  sources_.back().set_size(shard_->size());
  shard_.reset();
  return absl::OkStatus();
}

}  // namespace doppel
