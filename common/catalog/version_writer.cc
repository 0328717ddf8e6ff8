#include "common/catalog/version_writer.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog_format.h"
#include "common/catalog/catalog_writer.h"
#include "common/catalog/manifest.h"
#include "common/catalog/table_writer.h"
#include "common/io/mapped_file.h"

namespace doppel {
namespace {

namespace format = catalog_format;

// The first `bytes` of a table of the base version, behind the header, as they are.
absl::Status CopyRows(const Catalog& catalog, const v1::CatalogManifest& base, const char* name,
                      uint64_t bytes, TableWriter& writer) {
  constexpr uint64_t kPiece = uint64_t{4} << 20;
  const std::string path =
      absl::StrCat(catalog.directory(), "/", format::VersionedName(name, base.version()));
  ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> file,
                   MappedFile::Open(path, MappedFile::Access::kSequential));
  if (file->size() < sizeof(format::TableHeader) + bytes)
    return absl::DataLossError(absl::StrCat(path, ": is shorter than its rows. Import the data again"));
  const absl::string_view rows = file->data().substr(sizeof(format::TableHeader), bytes);
  for (uint64_t at = 0; at < bytes; at += kPiece) RETURN_IF_ERROR(writer.Append(rows.substr(at, kPiece)));
  return absl::OkStatus();
}

// Behind their header.
absl::StatusOr<uint64_t> RowBytes(const v1::CatalogManifest& base, const char* name) {
  for (const v1::FileDigest& file : base.files()) {
    if (file.name() == format::VersionedName(name, base.version()))
      return file.size() - sizeof(format::TableHeader);
  }
  return absl::DataLossError(absl::StrCat("the manifest does not name ", name, ". Import the data again"));
}

bool SameSource(const v1::CatalogSource& a, const v1::CatalogSource& b) {
  return a.SerializeAsString() == b.SerializeAsString();
}

}  // namespace

VersionWriter::VersionWriter(FileSystem& fs, const Catalog& catalog, const v1::CatalogManifest& base,
                             const std::string& format, const std::vector<v1::CatalogSource>& sources,
                             const EntryCollector& entries, const std::vector<IdentityAddition>& additions)
    : fs_(fs),
      catalog_(catalog),
      base_(base),
      format_(format),
      dataset_sources_(sources),
      entries_(entries),
      additions_(additions),
      identities_(catalog.num_identities()),
      samples_(catalog.num_samples()) {
  for (const IdentityAddition& addition : additions_) {
    identities_ = std::max(identities_, addition.identity + 1);
    samples_ += addition.entries.size();
  }
}

const IdentityAddition* VersionWriter::AdditionTo(uint64_t identity) const {
  const auto found = std::lower_bound(
      additions_.begin(), additions_.end(), identity,
      [](const IdentityAddition& addition, uint64_t wanted) { return addition.identity < wanted; });
  return found != additions_.end() && found->identity == identity ? &*found : nullptr;
}

absl::string_view VersionWriter::NameOf(uint64_t identity) const {
  return identity < catalog_.num_identities() ? catalog_.IdentityName(identity) : AdditionTo(identity)->name;
}

uint32_t VersionWriter::NextVersion(const v1::CatalogManifest& base) {
  return std::max<uint32_t>(1, base.version()) + 1;
}

absl::StatusOr<v1::CatalogManifest> VersionWriter::Describe(uint64_t skipped) {
  v1::CatalogManifest manifest;
  manifest.set_identities(identities_);
  manifest.set_samples(samples_);
  manifest.set_skipped(base_.skipped() + skipped);
  manifest.set_format(format_);
  manifest.set_version(NextVersion(base_));
  *manifest.mutable_earlier() = base_.earlier();
  v1::CatalogVersion* before = manifest.add_earlier();
  before->set_fingerprint(base_.fingerprint());
  before->set_identities(base_.identities());
  before->set_samples(base_.samples());
  before->set_sources(static_cast<uint32_t>(base_.sources_size()));
  before->set_format(base_.format());
  *before->mutable_splits() = base_.splits();
  RETURN_IF_ERROR(DescribeSplits(&manifest));
  DescribeSources(&manifest);
  manifest.set_fingerprint(Fingerprint(manifest));
  manifest.set_format_version(RequiredManifestVersion(manifest));
  return manifest;
}

absl::Status VersionWriter::DescribeSplits(v1::CatalogManifest* manifest) const {
  *manifest->mutable_splits() = base_.splits();
  v1::CatalogSplit* open = nullptr;  // the range that new identities go to
  for (const IdentityAddition& addition : additions_) {
    v1::CatalogSplit* range = nullptr;
    if (addition.identity < base_.identities()) {
      for (v1::CatalogSplit& split : *manifest->mutable_splits()) {
        if (addition.identity - split.first_identity() < split.identities()) range = &split;
      }
    } else {
      if (open == nullptr || open->name() != addition.split) {
        open = manifest->add_splits();
        open->set_name(std::string(addition.split));
        open->set_first_identity(addition.identity);
      }
      open->set_identities(open->identities() + 1);
      range = open;
    }
    range->set_samples(range->samples() + addition.entries.size());
  }
  return absl::OkStatus();
}

// Those that the new samples lie in, behind the old ones.
void VersionWriter::DescribeSources(v1::CatalogManifest* manifest) {
  constexpr uint32_t kUnused = std::numeric_limits<uint32_t>::max();
  *manifest->mutable_sources() = base_.sources();
  sources_.assign(dataset_sources_.size(), kUnused);
  for (const IdentityAddition& addition : additions_) {
    for (const uint64_t entry : addition.entries) sources_[entries_.sample(entry).source] = 0;
  }
  for (size_t i = 0; i < sources_.size(); ++i) {
    if (sources_[i] == kUnused) continue;
    const v1::CatalogSource& source = dataset_sources_[i];
    const auto same =
        std::find_if(base_.sources().begin(), base_.sources().end(),
                     [&source](const v1::CatalogSource& other) { return SameSource(source, other); });
    if (same != base_.sources().end()) {
      sources_[i] = static_cast<uint32_t>(same - base_.sources().begin());
    } else {
      sources_[i] = static_cast<uint32_t>(manifest->sources_size());
      *manifest->add_sources() = source;
    }
  }
}

std::string VersionWriter::Fingerprint(const v1::CatalogManifest& manifest) const {
  format::FingerprintHasher hasher;
  for (const v1::CatalogSplit& range : manifest.splits()) {
    hasher.AddSplit(range.name(), range.identities());
    for (uint64_t i = range.first_identity(); i < range.first_identity() + range.identities(); ++i) {
      const IdentityAddition* addition = AdditionTo(i);
      const IdentitySamples old = i < base_.identities() ? catalog_.Samples(i) : IdentitySamples();
      hasher.AddIdentity(NameOf(i), old.count + (addition == nullptr ? 0 : addition->entries.size()));
      for (uint64_t j = 0; j < old.count; ++j) {
        const SampleRecord record = catalog_.Sample(old[j]);
        hasher.AddSample(catalog_.SampleKey(old[j]), record.size, record.crc32c);
      }
      if (addition == nullptr) continue;
      for (const uint64_t entry : addition->entries) {
        const EntryCollector::Sample& sample = entries_.sample(entry);
        hasher.AddSample(sample.key(), sample.size, sample.crc32c);
      }
    }
  }
  const PixelShape raw = catalog_.RawShape(0);
  if (raw.bytes() > 0) hasher.AddRawPixels(raw.height, raw.width, raw.channels);
  for (const v1::CatalogVersion& version : manifest.earlier())
    hasher.AddEarlierVersion(version.fingerprint());
  return hasher.Finish();
}

absl::Status VersionWriter::Write(const std::vector<SkippedRecord>& skipped, v1::CatalogManifest* manifest) {
  RETURN_IF_ERROR(WriteIdentities(manifest));
  RETURN_IF_ERROR(WriteOrder(manifest));
  RETURN_IF_ERROR(WriteSamples(manifest));
  RETURN_IF_ERROR(WriteNames(manifest));
  RETURN_IF_ERROR(WriteKeys(manifest));
  for (const v1::FileDigest& file : base_.files()) {
    // Each version's stays.
    if (file.name().find(".jsonl") != std::string::npos) *manifest->add_files() = file;
  }
  if (!skipped.empty()) {
    RETURN_IF_ERROR(WriteSkippedRecords(fs_, catalog_.directory(),
                                        format::VersionedName(format::kSkipped, manifest->version()), skipped,
                                        manifest));
  }
  return fs_.SyncDirectory(catalog_.directory());
}

absl::Status VersionWriter::WriteIdentities(v1::CatalogManifest* manifest) {
  ASSIGN_OR_RETURN(
      const auto writer,
      TableWriter::Create(fs_, catalog_.directory(),
                          format::VersionedName(format::kIdentities, manifest->version()),
                          format::kIdentitiesMagic, sizeof(format::IdentityRow), identities_ + 1));
  uint64_t position = 0;
  auto addition = additions_.begin();
  for (uint64_t i = 0; i < identities_; ++i) {
    RETURN_IF_ERROR(writer->AppendRow(format::IdentityRow{position, name_bytes_}));
    if (i < base_.identities()) {
      position += catalog_.Samples(i).count;
      name_bytes_ += catalog_.IdentityName(i).size();
    } else {
      name_bytes_ += addition->name.size();
    }
    if (addition != additions_.end() && addition->identity == i) position += (addition++)->entries.size();
  }
  RETURN_IF_ERROR(writer->AppendRow(format::IdentityRow{position, name_bytes_}));
  ASSIGN_OR_RETURN(*manifest->add_files(), writer->Finish());
  return absl::OkStatus();
}

absl::Status VersionWriter::WriteOrder(v1::CatalogManifest* manifest) {
  ASSIGN_OR_RETURN(const auto writer,
                   TableWriter::Create(fs_, catalog_.directory(),
                                       format::VersionedName(format::kOrder, manifest->version()),
                                       format::kOrderMagic, sizeof(uint64_t), samples_));
  uint64_t next = base_.samples();
  auto addition = additions_.begin();
  for (uint64_t i = 0; i < identities_; ++i) {
    const IdentitySamples old = i < base_.identities() ? catalog_.Samples(i) : IdentitySamples();
    for (uint64_t j = 0; j < old.count; ++j) RETURN_IF_ERROR(writer->AppendRow(old[j]));
    if (addition == additions_.end() || addition->identity != i) continue;
    for (size_t j = 0; j < addition->entries.size(); ++j) RETURN_IF_ERROR(writer->AppendRow(next++));
    ++addition;
  }
  ASSIGN_OR_RETURN(*manifest->add_files(), writer->Finish());
  return absl::OkStatus();
}

absl::Status VersionWriter::WriteSamples(v1::CatalogManifest* manifest) {
  ASSIGN_OR_RETURN(const auto writer,
                   TableWriter::Create(fs_, catalog_.directory(),
                                       format::VersionedName(format::kSamples, manifest->version()),
                                       format::kSamplesMagic, sizeof(format::SampleRow), samples_ + 1));
  RETURN_IF_ERROR(
      CopyRows(catalog_, base_, format::kSamples, base_.samples() * sizeof(format::SampleRow), *writer));
  ASSIGN_OR_RETURN(key_bytes_, RowBytes(base_, format::kKeys));
  for (const IdentityAddition& addition : additions_) {
    for (const uint64_t entry : addition.entries) {
      const EntryCollector::Sample& sample = entries_.sample(entry);
      RETURN_IF_ERROR(writer->AppendRow(
          format::SampleRow{sample.offset, sample.size, sample.crc32c, sources_[sample.source],
                            static_cast<uint32_t>(addition.identity), key_bytes_}));
      key_bytes_ += sample.key_size;
    }
  }
  RETURN_IF_ERROR(writer->AppendRow(format::SampleRow{0, 0, 0, 0, 0, key_bytes_}));
  ASSIGN_OR_RETURN(*manifest->add_files(), writer->Finish());
  return absl::OkStatus();
}

absl::Status VersionWriter::WriteNames(v1::CatalogManifest* manifest) {
  ASSIGN_OR_RETURN(const auto writer,
                   TableWriter::Create(fs_, catalog_.directory(),
                                       format::VersionedName(format::kNames, manifest->version()),
                                       format::kNamesMagic, 1, name_bytes_));
  ASSIGN_OR_RETURN(const uint64_t old_bytes, RowBytes(base_, format::kNames));
  RETURN_IF_ERROR(CopyRows(catalog_, base_, format::kNames, old_bytes, *writer));
  for (const IdentityAddition& addition : additions_) {
    if (addition.identity >= base_.identities()) RETURN_IF_ERROR(writer->Append(addition.name));
  }
  ASSIGN_OR_RETURN(*manifest->add_files(), writer->Finish());
  return absl::OkStatus();
}

absl::Status VersionWriter::WriteKeys(v1::CatalogManifest* manifest) {
  ASSIGN_OR_RETURN(const auto writer,
                   TableWriter::Create(fs_, catalog_.directory(),
                                       format::VersionedName(format::kKeys, manifest->version()),
                                       format::kKeysMagic, 1, key_bytes_));
  ASSIGN_OR_RETURN(const uint64_t old_bytes, RowBytes(base_, format::kKeys));
  RETURN_IF_ERROR(CopyRows(catalog_, base_, format::kKeys, old_bytes, *writer));
  for (const IdentityAddition& addition : additions_) {
    for (const uint64_t entry : addition.entries)
      RETURN_IF_ERROR(writer->Append(entries_.sample(entry).key()));
  }
  ASSIGN_OR_RETURN(*manifest->add_files(), writer->Finish());
  return absl::OkStatus();
}

}  // namespace doppel
