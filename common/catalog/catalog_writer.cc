#include "common/catalog/catalog_writer.h"

#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog_format.h"
#include "common/catalog/manifest.h"
#include "common/catalog/table_writer.h"
#include "common/io/crc32c.h"

namespace doppel {
namespace {

namespace format = catalog_format;

std::string Fingerprint(const EntryCollector& entries, const std::vector<v1::CatalogSource>& sources) {
  format::FingerprintHasher hasher;
  for (const EntryCollector::Split& split : entries.splits()) {
    hasher.AddSplit(split.name, split.identities);
    for (uint64_t i = 0; i < split.identities; ++i) {
      const EntryCollector::Identity& identity = entries.identities()[split.first_identity + i];
      hasher.AddIdentity(identity.name, identity.end - identity.first);
      for (uint64_t s = identity.first; s < identity.end; ++s) {
        const EntryCollector::Sample& sample = entries.sample(s);
        hasher.AddSample(sample.key(), sample.size, sample.crc32c);
      }
    }
  }
  for (const v1::CatalogSource& source : sources) {
    if (!source.has_raw_pixels()) continue;
    const v1::ImageShape& shape = source.raw_pixels();
    hasher.AddRawPixels(shape.height(), shape.width(), shape.channels());
    break;  // one size for all of them
  }
  return hasher.Finish();
}

// Writes the tables into `directory` and their digests into the manifest.
class TablesWriting {
 public:
  TablesWriting(FileSystem& fs, std::string directory, const EntryCollector& entries,
                v1::CatalogManifest* manifest)
      : fs_(fs), directory_(std::move(directory)), entries_(entries), manifest_(*manifest) {}

  absl::Status Run(const std::vector<SkippedRecord>& skipped) {
    RETURN_IF_ERROR(WriteIdentities());
    RETURN_IF_ERROR(WriteSamples());
    RETURN_IF_ERROR(WriteNames());
    RETURN_IF_ERROR(WriteKeys());
    if (skipped.empty()) return absl::OkStatus();
    return WriteSkippedRecords(fs_, directory_, format::kSkipped, skipped, &manifest_);
  }

 private:
  absl::StatusOr<std::unique_ptr<TableWriter>> Create(const char* name, const char* magic,
                                                      uint32_t record_bytes, uint64_t records) {
    return TableWriter::Create(fs_, directory_, name, magic, record_bytes, records);
  }
  absl::Status Finish(TableWriter& writer) {
    ASSIGN_OR_RETURN(*manifest_.add_files(), writer.Finish());
    return absl::OkStatus();
  }

  absl::Status WriteIdentities() {
    ASSIGN_OR_RETURN(const auto writer,
                     Create(format::kIdentities, format::kIdentitiesMagic, sizeof(format::IdentityRow),
                            entries_.identities().size() + 1));
    uint64_t name_offset = 0;
    for (const EntryCollector::Identity& identity : entries_.identities()) {
      RETURN_IF_ERROR(writer->AppendRow(format::IdentityRow{identity.first, name_offset}));
      name_offset += identity.name.size();
    }
    RETURN_IF_ERROR(writer->AppendRow(format::IdentityRow{entries_.num_samples(), name_offset}));
    name_bytes_ = name_offset;
    return Finish(*writer);
  }

  absl::Status WriteSamples() {
    ASSIGN_OR_RETURN(const auto writer, Create(format::kSamples, format::kSamplesMagic,
                                               sizeof(format::SampleRow), entries_.num_samples() + 1));
    uint32_t number = 0;
    for (const EntryCollector::Identity& identity : entries_.identities()) {
      for (uint64_t s = identity.first; s < identity.end; ++s) {
        const EntryCollector::Sample& sample = entries_.sample(s);
        RETURN_IF_ERROR(writer->AppendRow(
            format::SampleRow{sample.offset, sample.size, sample.crc32c, sample.source, number, key_bytes_}));
        key_bytes_ += sample.key_size;
      }
      ++number;
    }
    RETURN_IF_ERROR(writer->AppendRow(format::SampleRow{0, 0, 0, 0, 0, key_bytes_}));
    return Finish(*writer);
  }

  absl::Status WriteNames() {
    ASSIGN_OR_RETURN(const auto writer, Create(format::kNames, format::kNamesMagic, 1, name_bytes_));
    for (const EntryCollector::Identity& identity : entries_.identities()) {
      RETURN_IF_ERROR(writer->Append(identity.name));
    }
    return Finish(*writer);
  }

  absl::Status WriteKeys() {
    ASSIGN_OR_RETURN(const auto writer, Create(format::kKeys, format::kKeysMagic, 1, key_bytes_));
    for (uint64_t s = 0; s < entries_.num_samples(); ++s)
      RETURN_IF_ERROR(writer->Append(entries_.sample(s).key()));
    return Finish(*writer);
  }

  FileSystem& fs_;
  const std::string directory_;
  const EntryCollector& entries_;
  v1::CatalogManifest& manifest_;
  uint64_t name_bytes_ = 0;
  uint64_t key_bytes_ = 0;
};

std::string Parent(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::Status Publish(FileSystem& fs, const std::string& temporary, const std::string& directory) {
  const std::string old = absl::StrCat(directory, ".old");
  if (fs.Exists(directory)) {
    if (fs.Exists(old)) RETURN_IF_ERROR(fs.RemoveRecursively(old));
    RETURN_IF_ERROR(fs.Rename(directory, old));
  }
  RETURN_IF_ERROR(fs.Rename(temporary, directory));
  RETURN_IF_ERROR(fs.SyncDirectory(Parent(directory)));
  return fs.Exists(old) ? fs.RemoveRecursively(old) : absl::OkStatus();
}

// Its sources lie in its own folder: replacing it would remove the images themselves.
bool HoldsImages(const v1::CatalogManifest& manifest) {
  for (const v1::CatalogSource& source : manifest.sources()) {
    if (!absl::StartsWith(source.path(), "/")) return true;
  }
  return false;
}

}  // namespace

std::string TemporaryCatalog(const std::string& directory) { return absl::StrCat(directory, ".tmp"); }

std::string CatalogDirectory(const std::string& target) {
  std::string directory = target;
  while (directory.size() > 1 && directory.back() == '/') directory.pop_back();
  return directory;
}

v1::CatalogManifest MakeCatalogManifest(const std::string& format,
                                        const std::vector<v1::CatalogSource>& sources,
                                        const EntryCollector& entries, uint64_t skipped) {
  v1::CatalogManifest manifest;
  manifest.set_fingerprint(Fingerprint(entries, sources));
  manifest.set_identities(entries.identities().size());
  manifest.set_samples(entries.num_samples());
  manifest.set_skipped(skipped);
  manifest.set_format(format);
  for (const EntryCollector::Split& split : entries.splits()) {
    v1::CatalogSplit* out = manifest.add_splits();
    out->set_name(split.name);
    out->set_first_identity(split.first_identity);
    out->set_identities(split.identities);
    out->set_samples(split.samples);
  }
  for (const v1::CatalogSource& source : sources) *manifest.add_sources() = source;
  manifest.set_format_version(RequiredManifestVersion(manifest));
  return manifest;
}

absl::Status CheckCatalogTarget(FileSystem& fs, const std::string& directory,
                                const v1::CatalogManifest& manifest, bool force, bool* unchanged) {
  *unchanged = false;
  if (!fs.Exists(directory)) return absl::OkStatus();
  const absl::StatusOr<v1::CatalogManifest> old = ReadCatalogManifest(fs, directory);
  if (absl::IsNotFound(old.status())) {
    const absl::StatusOr<std::vector<std::string>> names = fs.List(directory);
    if (names.ok() && names->empty()) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        directory, " exists and is not a catalog: name another directory, nothing in this one is touched"));
  }
  if (old.ok() && old->fingerprint() == manifest.fingerprint()) {
    // The same data; it may have moved, or the tables may have been lost.
    *unchanged = old->SerializeAsString() == manifest.SerializeAsString();
    for (const v1::FileDigest& file : manifest.files()) {
      const absl::StatusOr<uint64_t> size = fs.Size(absl::StrCat(directory, "/", file.name()));
      if (!size.ok() || *size != file.size()) *unchanged = false;
    }
    if (*unchanged || !HoldsImages(*old)) return absl::OkStatus();
  }
  if (force) return absl::OkStatus();
  if (old.ok() && HoldsImages(*old)) {
    return absl::AlreadyExistsError(absl::StrCat(
        directory,
        " holds packed images: --force replaces them, which removes them. Name another directory "
        "if they are wanted"));
  }
  return absl::AlreadyExistsError(absl::StrCat(
      directory, " holds another catalog (fingerprint ", old.ok() ? old->fingerprint() : "unreadable",
      ", new ", manifest.fingerprint(),
      "): use --append to add to it, --force to replace it, or name another directory. Generations and "
      "representations made from one that is replaced do not fit the new one"));
}

absl::Status WriteCatalogTables(FileSystem& fs, const std::string& directory, const EntryCollector& entries,
                                const std::vector<SkippedRecord>& skipped, v1::CatalogManifest* manifest) {
  return TablesWriting(fs, directory, entries, manifest).Run(skipped);
}

absl::Status WriteSkippedRecords(FileSystem& fs, const std::string& directory, const std::string& name,
                                 const std::vector<SkippedRecord>& skipped, v1::CatalogManifest* manifest) {
  std::string lines;
  for (const SkippedRecord& skip : skipped) {
    const nlohmann::ordered_json line = {
        {"file", skip.file}, {"record", skip.record}, {"reason", skip.reason}, {"detail", skip.detail}};
    absl::StrAppend(&lines, line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), "\n");
  }
  ASSIGN_OR_RETURN(const auto file, fs.Create(absl::StrCat(directory, "/", name)));
  RETURN_IF_ERROR(file->Append(lines));
  RETURN_IF_ERROR(file->Sync());
  RETURN_IF_ERROR(file->Close());
  v1::FileDigest* digest = manifest->add_files();
  digest->set_name(name);
  digest->set_size(lines.size());
  digest->set_crc32c(Crc32c(lines));
  return absl::OkStatus();
}

absl::Status PublishCatalog(FileSystem& fs, const std::string& directory,
                            const v1::CatalogManifest& manifest) {
  const std::string temporary = TemporaryCatalog(directory);
  ASSIGN_OR_RETURN(const std::string json, FormatCatalogManifest(manifest));
  ASSIGN_OR_RETURN(const auto file, fs.Create(absl::StrCat(temporary, "/", format::kManifest)));
  RETURN_IF_ERROR(file->Append(json));
  RETURN_IF_ERROR(file->Sync());
  RETURN_IF_ERROR(file->Close());
  RETURN_IF_ERROR(fs.SyncDirectory(temporary));
  return Publish(fs, temporary, directory);
}

absl::Status RestoreOldCatalog(FileSystem& fs, const std::string& directory) {
  const std::string old = absl::StrCat(directory, ".old");
  if (fs.Exists(directory) || !fs.Exists(absl::StrCat(old, "/", format::kManifest))) return absl::OkStatus();
  return fs.Rename(old, directory);
}

}  // namespace doppel
