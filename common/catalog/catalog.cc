#include "common/catalog/catalog.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog_format.h"
#include "common/catalog/catalog_version.h"
#include "common/catalog/manifest.h"
#include "common/catalog/source_files.h"
#include "common/io/crc32c.h"
#include "common/io/mapped_file.h"

namespace doppel {
namespace {

using catalog_format::IdentityRow;
using catalog_format::SampleRow;
using catalog_format::TableHeader;

// One mapped table of fixed-size records.
struct Table {
  std::shared_ptr<const MappedFile> file;
  const char* rows = nullptr;
  uint64_t records = 0;
};

absl::Status Damaged(const std::string& path, absl::string_view what) {
  return absl::DataLossError(absl::StrCat(path, ": ", what, ". Import the data again"));
}

absl::StatusOr<Table> OpenTable(const std::string& directory, const v1::CatalogManifest& manifest,
                                absl::string_view table_name, const char* magic, uint32_t record_bytes) {
  Table table;
  const std::string name = catalog_format::VersionedName(table_name, manifest.version());
  const std::string path = absl::StrCat(directory, "/", name);
  ASSIGN_OR_RETURN(table.file, MappedFile::Open(path, MappedFile::Access::kRandom));
  const auto digest = std::find_if(manifest.files().begin(), manifest.files().end(),
                                   [&](const v1::FileDigest& file) { return file.name() == name; });
  if (digest == manifest.files().end()) return Damaged(path, "the manifest does not name this table");
  if (digest->size() != table.file->size()) {
    return Damaged(path,
                   absl::StrCat("has ", table.file->size(), " bytes, the manifest says ", digest->size()));
  }
  if (table.file->size() < sizeof(TableHeader)) return Damaged(path, "is shorter than its header");
  TableHeader header;
  std::memcpy(&header, table.file->data().data(), sizeof(header));
  if (std::memcmp(header.magic, magic, sizeof(header.magic)) != 0)
    return Damaged(path, "has a wrong magic number");
  if (header.version != catalog_format::kVersion || header.record_bytes != record_bytes) {
    return Damaged(path, absl::StrCat("has version ", header.version, " with ", header.record_bytes,
                                      " bytes per record, this program reads version ",
                                      catalog_format::kVersion, " with ", record_bytes));
  }
  const uint64_t payload = table.file->size() - sizeof(header);
  if (header.records != payload / record_bytes || payload % record_bytes != 0) {
    return Damaged(path,
                   absl::StrCat("says ", header.records, " records and holds ", payload, " bytes of them"));
  }
  table.rows = table.file->data().data() + sizeof(header);
  table.records = header.records;
  return table;
}

std::vector<CatalogSplitInfo> RangesOf(const google::protobuf::RepeatedPtrField<v1::CatalogSplit>& splits) {
  std::vector<CatalogSplitInfo> ranges;
  ranges.reserve(static_cast<size_t>(splits.size()));
  for (const v1::CatalogSplit& split : splits) {
    ranges.push_back({split.name(), split.first_identity(), split.identities(), split.samples()});
  }
  return ranges;
}

// What the ranges of a name hold together.
std::vector<CatalogSplitInfo> MergedSplits(const std::vector<CatalogSplitInfo>& ranges) {
  std::vector<CatalogSplitInfo> merged;
  for (const CatalogSplitInfo& range : ranges) {
    const auto same = std::find_if(merged.begin(), merged.end(), [&range](const CatalogSplitInfo& split) {
      return split.name == range.name;
    });
    if (same == merged.end()) {
      merged.push_back(range);
      continue;
    }
    if (same->rows().end() != range.first_identity) {
      same->later.push_back({range.first_identity, range.identities});
    } else if (!same->later.empty()) {
      same->later.back().count += range.identities;
    }
    same->identities += range.identities;
    same->samples += range.samples;
  }
  return merged;
}

// A damaged offset must not lead outside of the mapping; Verify says what is wrong.
absl::string_view Text(const Table& strings, uint64_t begin, uint64_t end) {
  if (begin > end || end > strings.records) return {};
  return {strings.rows + begin, end - begin};
}

class MappedCatalog : public Catalog {
 public:
  MappedCatalog(std::string directory, v1::CatalogManifest manifest, Table identities, Table samples,
                Table names, Table keys, Table order)
      : directory_(std::move(directory)),
        manifest_(std::move(manifest)),
        identities_(std::move(identities)),
        samples_(std::move(samples)),
        names_(std::move(names)),
        keys_(std::move(keys)),
        order_(std::move(order)),
        sources_({manifest_.sources().begin(), manifest_.sources().end()}, directory_) {
    ranges_ = RangesOf(manifest_.splits());
    splits_ = MergedSplits(ranges_);
    earlier_.reserve(static_cast<size_t>(manifest_.earlier_size()));
    for (const v1::CatalogVersion& version : manifest_.earlier()) {
      earlier_.push_back({version.fingerprint(), version.identities(), version.samples(),
                          MergedSplits(RangesOf(version.splits())),
                          static_cast<size_t>(version.splits_size())});
    }
  }

  uint64_t num_identities() const override { return manifest_.identities(); }
  uint64_t num_samples() const override { return manifest_.samples(); }
  const std::string& fingerprint() const override { return manifest_.fingerprint(); }
  const std::string& directory() const override { return directory_; }
  const std::vector<CatalogSplitInfo>& splits() const override { return splits_; }
  const std::vector<CatalogSplitInfo>& sorted_ranges() const override { return ranges_; }
  const std::vector<CatalogVersionInfo>& earlier_versions() const override { return earlier_; }

  absl::StatusOr<CatalogSplitInfo> Split(absl::string_view name) const override {
    return FindSplit(*this, name);
  }

  absl::string_view IdentityName(uint64_t identity) const override {
    return Text(names_, IdentityAt(identity).name_offset, IdentityAt(identity + 1).name_offset);
  }

  IdentitySamples Samples(uint64_t identity) const override {
    const uint64_t first = IdentityAt(identity).first_sample;
    const uint64_t end = IdentityAt(identity + 1).first_sample;
    if (first > end || end > num_samples()) return {};
    const auto count = static_cast<uint32_t>(end - first);
    if (order_.rows == nullptr || count == 0) return {first, count};
    const uint64_t* numbers = reinterpret_cast<const uint64_t*>(order_.rows) + first;
    if (numbers[count - 1] - numbers[0] == count - 1) return {numbers[0], count};
    return {numbers[0], count, numbers};
  }

  void PrefetchSamples(const uint64_t* identities, size_t count) const override {
    for (size_t i = 0; i < count; ++i) {
      __builtin_prefetch(&IdentityAt(identities[i]));
      __builtin_prefetch(&IdentityAt(identities[i] + 1));  // often in the next cache line
    }
  }

  SampleRecord Sample(uint64_t sample) const override {
    const SampleRow& row = SampleAt(sample);
    return {row.offset, row.size, row.crc32c, row.source, row.identity};
  }

  void SampleRecords(const uint64_t* samples, size_t count, SampleRecord* records) const override {
    constexpr size_t kAhead = 32;
    for (size_t i = 0; i < std::min(kAhead, count); ++i) __builtin_prefetch(&SampleAt(samples[i]));
    for (size_t i = 0; i < count; ++i) {
      if (i + kAhead < count) __builtin_prefetch(&SampleAt(samples[i + kAhead]));
      const SampleRow& row = SampleAt(samples[i]);
      records[i] = {row.offset, row.size, row.crc32c, row.source, row.identity};
    }
  }

  absl::string_view SampleKey(uint64_t sample) const override {
    return Text(keys_, SampleAt(sample).key_offset, SampleAt(sample + 1).key_offset);
  }

  std::string SamplePath(uint64_t sample) const override {
    const uint32_t source = SampleAt(sample).source;
    return source < sources_.size() ? sources_.Path(source, SampleKey(sample)) : std::string();
  }

  absl::StatusOr<uint64_t> FindIdentity(absl::string_view name) const override {
    const std::vector<uint64_t> found = FindIdentities(*this, name);
    if (!found.empty()) return found.front();
    return absl::NotFoundError(
        absl::StrCat("catalog ", directory_, " has no identity \"", absl::CEscape(name), "\""));
  }

  SampleEncoding Encoding(uint64_t sample) const override {
    const uint32_t source = SampleAt(sample).source;
    return source < sources_.size() && sources_.source(source).has_raw_pixels() ? SampleEncoding::kRawPixels
                                                                                : SampleEncoding::kImageFile;
  }

  PixelShape RawShape(uint64_t sample) const override {
    if (Encoding(sample) != SampleEncoding::kRawPixels) return {};
    const v1::ImageShape& shape = sources_.source(SampleAt(sample).source).raw_pixels();
    return {shape.height(), shape.width(), shape.channels()};
  }

  uint32_t num_sources() const override { return static_cast<uint32_t>(sources_.size()); }

  absl::StatusOr<MappedSource> Source(uint32_t source) const override {
    if (source >= sources_.size()) return Catalog::Source(source);
    return sources_.WholeFile(source);
  }

  bool Contiguous(uint64_t sample) const override {
    const uint32_t source = SampleAt(sample).source;
    return source >= sources_.size() ||
           sources_.source(source).kind() != v1::CatalogSource::KIND_RECORD_PARTS;
  }

  absl::StatusOr<SampleBytes> Read(uint64_t sample) const override {
    const SampleRow& row = SampleAt(sample);
    if (row.source >= sources_.size()) {
      return Damaged(directory_, absl::StrCat("sample ", sample, " points to source ", row.source, " of ",
                                              sources_.size()));
    }
    if (row.size < RawShape(sample).bytes()) {
      return Damaged(directory_, absl::StrCat("sample ", sample, " is smaller than its pixels"));
    }
    absl::StatusOr<SampleBytes> bytes = sources_.Read(row.source, SampleKey(sample), row.offset, row.size);
    if (bytes.ok()) return bytes;
    return absl::Status(bytes.status().code(),
                        absl::StrCat("sample ", sample, " (", absl::CEscape(SampleKey(sample)),
                                     "): ", bytes.status().message()));
  }

  absl::StatusOr<SampleBytes> ReadChecked(uint64_t sample) const override {
    ASSIGN_OR_RETURN(SampleBytes bytes, Read(sample));
    const uint32_t crc = Crc32c(bytes.data);
    if (crc != SampleAt(sample).crc32c) {
      return absl::DataLossError(absl::StrCat(
          "sample ", sample, " (", absl::CEscape(SampleKey(sample)), " in ",
          absl::CEscape(SamplePath(sample)), "): its bytes have changed since the import (CRC32C ",
          absl::Hex(crc, absl::kZeroPad8), " instead of ",
          absl::Hex(SampleAt(sample).crc32c, absl::kZeroPad8), "): put the old file back, or import again"));
    }
    return bytes;
  }

  absl::Status Verify() const override {
    for (const v1::FileDigest& digest : manifest_.files()) {
      const std::string path = absl::StrCat(directory_, "/", digest.name());
      ASSIGN_OR_RETURN(std::shared_ptr<const MappedFile> file,
                       MappedFile::Open(path, MappedFile::Access::kSequential));
      if (file->size() != digest.size() || Crc32c(file->data()) != digest.crc32c()) {
        return Damaged(path, "does not have the checksum that the manifest says");
      }
    }
    const std::string actual = Fingerprint();
    if (actual != fingerprint()) {
      return Damaged(directory_, absl::StrCat("the tables have fingerprint ", actual, ", the manifest says ",
                                              fingerprint()));
    }
    return absl::OkStatus();
  }

 private:
  const IdentityRow& IdentityAt(uint64_t identity) const {
    return reinterpret_cast<const IdentityRow*>(identities_.rows)[identity];
  }
  // A damaged order.tbl must not lead outside of the mapping either: the last row reads as an empty sample.
  const SampleRow& SampleAt(uint64_t sample) const {
    return reinterpret_cast<const SampleRow*>(samples_.rows)[std::min(sample, num_samples())];
  }

  std::string Fingerprint() const {
    catalog_format::FingerprintHasher hasher;
    for (const CatalogSplitInfo& split : ranges_) {
      hasher.AddSplit(split.name, split.identities);
      for (uint64_t i = split.first_identity; i < split.first_identity + split.identities; ++i) {
        const IdentitySamples range = Samples(i);
        hasher.AddIdentity(IdentityName(i), range.count);
        for (uint64_t j = 0; j < range.count; ++j) {
          const SampleRow& row = SampleAt(range[j]);
          hasher.AddSample(SampleKey(range[j]), row.size, row.crc32c);
        }
      }
    }
    for (const v1::CatalogSource& source : manifest_.sources()) {
      if (!source.has_raw_pixels()) continue;
      const v1::ImageShape& shape = source.raw_pixels();
      hasher.AddRawPixels(shape.height(), shape.width(), shape.channels());
      break;  // one size for all of them
    }
    for (const v1::CatalogVersion& version : manifest_.earlier())
      hasher.AddEarlierVersion(version.fingerprint());
    return hasher.Finish();
  }

  const std::string directory_;
  const v1::CatalogManifest manifest_;
  const Table identities_;
  const Table samples_;
  const Table names_;
  const Table keys_;
  const Table order_;  // no rows in a first version
  const SourceFiles sources_;
  std::vector<CatalogSplitInfo> ranges_;  // by name within each
  std::vector<CatalogSplitInfo> splits_;
  std::vector<CatalogVersionInfo> earlier_;
};

// Counts and sentinels: what O(1) can tell.
absl::Status CheckShape(const std::string& directory, const v1::CatalogManifest& manifest,
                        const Table& identities, const Table& samples, const Table& names, const Table& keys,
                        const Table& order) {
  if (order.rows != nullptr && order.records != manifest.samples()) {
    return Damaged(directory, "order.tbl does not have as many records as the manifest has samples");
  }
  uint64_t identities_before = 0, samples_before = 0;
  for (const v1::CatalogVersion& version : manifest.earlier()) {
    bool fits = version.identities() >= identities_before && version.identities() <= manifest.identities() &&
                version.samples() >= samples_before && version.samples() <= manifest.samples() &&
                version.splits_size() <= manifest.splits_size();
    for (int i = 0; fits && i < version.splits_size(); ++i) {
      fits = version.splits(i).name() == manifest.splits(i).name() &&
             version.splits(i).first_identity() == manifest.splits(i).first_identity() &&
             version.splits(i).identities() == manifest.splits(i).identities();
    }
    if (!fits) return Damaged(directory, "the earlier versions of the manifest do not fit");
    identities_before = version.identities();
    samples_before = version.samples();
  }
  // The last row holds the totals, so there is one in any case.
  if (identities.records == 0 || identities.records - 1 != manifest.identities() || samples.records == 0 ||
      samples.records - 1 != manifest.samples()) {
    return Damaged(directory, "the tables do not have as many records as the manifest says");
  }
  IdentityRow last_identity;
  std::memcpy(&last_identity, identities.rows + manifest.identities() * sizeof(IdentityRow),
              sizeof(IdentityRow));
  SampleRow last_sample;
  std::memcpy(&last_sample, samples.rows + manifest.samples() * sizeof(SampleRow), sizeof(SampleRow));
  if (last_identity.first_sample != manifest.samples() || last_identity.name_offset != names.records ||
      last_sample.key_offset != keys.records) {
    return Damaged(directory, "the tables contradict one another");
  }
  uint64_t next = 0;
  for (const v1::CatalogSplit& split : manifest.splits()) {
    if (split.first_identity() != next || split.identities() > manifest.identities() - next) {
      return Damaged(directory, absl::StrCat("split ", split.name(), " of the manifest does not fit"));
    }
    next += split.identities();
  }
  if (next != manifest.identities()) return Damaged(directory, "the splits do not cover the identities");
  for (const v1::CatalogSource& source : manifest.sources()) {
    if (!source.has_raw_pixels()) continue;
    const v1::ImageShape& shape = source.raw_pixels();
    constexpr uint32_t kMaxSide = 1 << 14;
    if (shape.height() - 1 >= kMaxSide || shape.width() - 1 >= kMaxSide ||
        (shape.channels() != 1 && shape.channels() != 3)) {
      return Damaged(directory, absl::StrCat("source ", source.path(), " of the manifest has raw pixels of ",
                                             shape.height(), "x", shape.width(), "x", shape.channels()));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const Catalog>> OpenTables(const std::string& directory,
                                                          v1::CatalogManifest manifest) {
  namespace format = catalog_format;
  ASSIGN_OR_RETURN(Table identities, OpenTable(directory, manifest, format::kIdentities,
                                               format::kIdentitiesMagic, sizeof(IdentityRow)));
  ASSIGN_OR_RETURN(Table samples, OpenTable(directory, manifest, format::kSamples, format::kSamplesMagic,
                                            sizeof(SampleRow)));
  ASSIGN_OR_RETURN(Table names, OpenTable(directory, manifest, format::kNames, format::kNamesMagic, 1));
  ASSIGN_OR_RETURN(Table keys, OpenTable(directory, manifest, format::kKeys, format::kKeysMagic, 1));
  Table order;
  if (manifest.version() > 1) {
    ASSIGN_OR_RETURN(order,
                     OpenTable(directory, manifest, format::kOrder, format::kOrderMagic, sizeof(uint64_t)));
  }
  RETURN_IF_ERROR(CheckShape(directory, manifest, identities, samples, names, keys, order));
  return std::make_shared<const MappedCatalog>(directory, std::move(manifest), std::move(identities),
                                               std::move(samples), std::move(names), std::move(keys),
                                               std::move(order));
}

}  // namespace

absl::StatusOr<MappedSource> Catalog::Source(uint32_t source) const {
  return absl::FailedPreconditionError(absl::StrCat("source ", source, " is not one mapped file"));
}

const std::vector<CatalogVersionInfo>& Catalog::earlier_versions() const {
  static const auto* const none = new std::vector<CatalogVersionInfo>();
  return *none;
}

absl::StatusOr<std::shared_ptr<const Catalog>> Catalog::Open(const std::string& directory) {
  constexpr int kAttempts = 10;
  for (int attempt = 1;; ++attempt) {
    ASSIGN_OR_RETURN(v1::CatalogManifest manifest, ReadCatalogManifest(PosixFileSystem(), directory));
    const std::string fingerprint = manifest.fingerprint();
    absl::StatusOr<std::shared_ptr<const Catalog>> opened = OpenTables(directory, std::move(manifest));
    if (opened.ok() || attempt == kAttempts) return opened;
    // A new version may have taken the place of the one that the manifest was of.
    ASSIGN_OR_RETURN(manifest, ReadCatalogManifest(PosixFileSystem(), directory));
    if (manifest.fingerprint() == fingerprint) return opened;
  }
}

}  // namespace doppel
