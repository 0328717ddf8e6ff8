#include "common/catalog/catalog_builder.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/base/clock.h"
#include "common/base/executor.h"
#include "common/base/progress.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog_format.h"
#include "common/catalog/entry_collector.h"
#include "common/catalog/manifest.h"
#include "common/catalog/table_writer.h"
#include "common/io/crc32c.h"

namespace doppel {
namespace {

namespace format = catalog_format;

std::string Describe(const SkippedRecord& skip) {
  return absl::StrCat(absl::CEscape(skip.file), skip.record.empty() ? "" : ": ", absl::CEscape(skip.record),
                      ": ", skip.reason, skip.detail.empty() ? "" : ": ", absl::CEscape(skip.detail));
}

absl::Status StrictError(const SkippedRecord& skip) {
  return absl::DataLossError(
      absl::StrCat(Describe(skip), ". Mend the data, or import without --strict to leave such records out"));
}

// Reads the parts side by side. What comes of a part is kept by its number, so the outcome does not depend on
// who read it when: the error returned is that of the first part that has one.
class PartsReading {
 public:
  PartsReading(const DatasetReader& dataset, const CatalogBuildOptions& options)
      : dataset_(dataset),
        strict_(options.strict),
        first_failed_(dataset.num_parts()),
        skipped_(dataset.num_parts()),
        errors_(dataset.num_parts()),
        progress_({"import", dataset.work_unit(), dataset.total_work(), stderr, options.quiet}) {}

  absl::Status Run(int threads) {
    ParallelFor(static_cast<int64_t>(dataset_.num_parts()), 1, threads, [this](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) ReadPart(static_cast<size_t>(part));
    });
    progress_.Finish();
    return first_failed_ < errors_.size() ? errors_[first_failed_] : absl::OkStatus();
  }

  // After Run.
  EntryCollector& collector() ABSL_NO_THREAD_SAFETY_ANALYSIS { return collector_; }
  std::vector<SkippedRecord> TakeSkipped() {
    std::vector<SkippedRecord> all;
    for (std::vector<SkippedRecord>& part : skipped_) {
      std::move(part.begin(), part.end(), std::back_inserter(all));
      part = {};
    }
    return all;
  }

 private:
  static constexpr size_t kBatch = 1024;

  void ReadPart(size_t part) {
    if (part > first_failed_) return;
    errors_[part] = TryReadPart(part);
    if (errors_[part].ok()) return;
    size_t failed = first_failed_;
    while (part < failed && !first_failed_.compare_exchange_weak(failed, part)) {
    }
  }

  absl::Status TryReadPart(size_t part) {
    ASSIGN_OR_RETURN(const std::unique_ptr<SampleReader> reader, dataset_.OpenPart(part));
    std::vector<SampleEntry> batch;
    uint64_t reported = 0;
    while (part <= first_failed_) {
      ASSIGN_OR_RETURN(ReaderItem item, reader->Next());
      const bool end = std::holds_alternative<ReaderEnd>(item);
      if (auto* skip = std::get_if<SkippedRecord>(&item)) {
        if (strict_) return StrictError(*skip);
        skipped_[part].push_back(std::move(*skip));
      } else if (auto* entry = std::get_if<SampleEntry>(&item)) {
        batch.push_back(std::move(*entry));
      }
      if (batch.size() < kBatch && !end) continue;
      RETURN_IF_ERROR(Collect(batch));
      batch.clear();
      progress_.Add(reader->work_done() - reported);
      reported = reader->work_done();
      if (end) break;
    }
    return absl::OkStatus();
  }

  absl::Status Collect(const std::vector<SampleEntry>& batch) {
    absl::MutexLock lock(&mutex_);
    for (const SampleEntry& entry : batch) RETURN_IF_ERROR(collector_.Add(entry));
    return absl::OkStatus();
  }

  const DatasetReader& dataset_;
  const bool strict_;
  std::atomic<size_t> first_failed_;
  std::vector<std::vector<SkippedRecord>> skipped_;  // each element: by the thread that reads the part
  std::vector<absl::Status> errors_;                 // the same
  Progress progress_;
  absl::Mutex mutex_;
  EntryCollector collector_ ABSL_GUARDED_BY(mutex_);
};

void NameDuplicates(const DatasetReader& dataset, const EntryCollector& entries,
                    std::vector<SkippedRecord>* skipped) {
  for (const EntryCollector::Sample& sample : entries.duplicates()) {
    skipped->push_back({dataset.sources()[sample.source].path(), std::string(sample.key()), "duplicate",
                        absl::StrCat("identity \"", absl::CEscape(entries.arrived_name(sample.identity)),
                                     "\" has this key already")});
  }
}

std::string Fingerprint(const EntryCollector& entries) {
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
    return skipped.empty() ? absl::OkStatus() : WriteSkipped(skipped);
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

  absl::Status WriteSkipped(const std::vector<SkippedRecord>& skipped) {
    std::string lines;
    for (const SkippedRecord& skip : skipped) {
      const nlohmann::ordered_json line = {
          {"file", skip.file}, {"record", skip.record}, {"reason", skip.reason}, {"detail", skip.detail}};
      absl::StrAppend(&lines, line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), "\n");
    }
    ASSIGN_OR_RETURN(const auto file, fs_.Create(absl::StrCat(directory_, "/", format::kSkipped)));
    RETURN_IF_ERROR(file->Append(lines));
    RETURN_IF_ERROR(file->Sync());
    RETURN_IF_ERROR(file->Close());
    v1::FileDigest* digest = manifest_.add_files();
    digest->set_name(format::kSkipped);
    digest->set_size(lines.size());
    digest->set_crc32c(Crc32c(lines));
    return absl::OkStatus();
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

// What may be done with what `directory` holds now. `unchanged`: it is this very catalog.
absl::Status CheckTarget(FileSystem& fs, const std::string& directory, const v1::CatalogManifest& manifest,
                         bool force, bool* unchanged) {
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
    return absl::OkStatus();
  }
  if (force) return absl::OkStatus();
  return absl::AlreadyExistsError(absl::StrCat(
      directory, " holds another catalog (fingerprint ", old.ok() ? old->fingerprint() : "unreadable",
      ", new ", manifest.fingerprint(),
      "): import with --force to replace it, or name another directory. Generations and representations "
      "made from the old one do not fit the new one"));
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

// An import that died between the two renames left the old catalog aside.
absl::Status RestoreOld(FileSystem& fs, const std::string& directory) {
  const std::string old = absl::StrCat(directory, ".old");
  if (fs.Exists(directory) || !fs.Exists(absl::StrCat(old, "/", format::kManifest))) return absl::OkStatus();
  return fs.Rename(old, directory);
}

absl::StatusOr<v1::CatalogManifest> MakeManifest(const DatasetReader& dataset, const EntryCollector& entries,
                                                 uint64_t skipped) {
  v1::CatalogManifest manifest;
  manifest.set_format_version(format::kVersion);
  manifest.set_fingerprint(Fingerprint(entries));
  manifest.set_identities(entries.identities().size());
  manifest.set_samples(entries.num_samples());
  manifest.set_skipped(skipped);
  manifest.set_format(dataset.format());
  for (const EntryCollector::Split& split : entries.splits()) {
    v1::CatalogSplit* out = manifest.add_splits();
    out->set_name(split.name);
    out->set_first_identity(split.first_identity);
    out->set_identities(split.identities);
    out->set_samples(split.samples);
  }
  for (const v1::CatalogSource& source : dataset.sources()) *manifest.add_sources() = source;
  return manifest;
}

// Everything below `directory`.tmp first, then the rename. Leaves an equal catalog alone.
absl::Status WriteCatalog(FileSystem& fs, const std::string& directory, const EntryCollector& entries,
                          bool force, CatalogBuildSummary* summary) {
  const std::string temporary = absl::StrCat(directory, ".tmp");
  if (fs.Exists(temporary)) RETURN_IF_ERROR(fs.RemoveRecursively(temporary));
  RETURN_IF_ERROR(fs.MakeDirectories(temporary));
  RETURN_IF_ERROR(TablesWriting(fs, temporary, entries, &summary->manifest).Run(summary->skipped));
  // Once more, now that the tables' digests are known.
  RETURN_IF_ERROR(CheckTarget(fs, directory, summary->manifest, force, &summary->unchanged));
  if (summary->unchanged) return fs.RemoveRecursively(temporary);
  ASSIGN_OR_RETURN(const std::string json, FormatCatalogManifest(summary->manifest));
  ASSIGN_OR_RETURN(const auto file, fs.Create(absl::StrCat(temporary, "/", format::kManifest)));
  RETURN_IF_ERROR(file->Append(json));
  RETURN_IF_ERROR(file->Sync());
  RETURN_IF_ERROR(file->Close());
  RETURN_IF_ERROR(fs.SyncDirectory(temporary));
  return Publish(fs, temporary, directory);
}

absl::Status NothingFound(const DatasetReader& dataset, const std::vector<SkippedRecord>& skipped) {
  std::string text =
      absl::StrCat("no usable sample in ", dataset.sources().empty() ? "" : dataset.sources()[0].path(),
                   " as ", dataset.format());
  if (!skipped.empty()) {
    absl::StrAppend(&text, ": ", skipped.size(), " records left out, the first: ", Describe(skipped.front()));
  }
  return absl::InvalidArgumentError(text);
}

}  // namespace

absl::StatusOr<CatalogBuildSummary> BuildCatalog(const DatasetReader& dataset, const std::string& target,
                                                 const CatalogBuildOptions& options, FileSystem& fs) {
  std::string directory = target;
  while (directory.size() > 1 && directory.back() == '/') directory.pop_back();
  const absl::Time start = Clock::Real().Now();
  RETURN_IF_ERROR(RestoreOld(fs, directory));

  PartsReading reading(dataset, options);
  RETURN_IF_ERROR(reading.Run(std::max(options.threads, 1)));
  EntryCollector& entries = reading.collector();
  entries.Sort();
  CatalogBuildSummary summary;
  summary.skipped = reading.TakeSkipped();
  NameDuplicates(dataset, entries, &summary.skipped);
  if (options.strict && !summary.skipped.empty()) return StrictError(summary.skipped.front());
  for (const SkippedRecord& skip : summary.skipped) ++summary.skipped_by_reason[skip.reason];
  if (entries.num_samples() == 0) return NothingFound(dataset, summary.skipped);
  ASSIGN_OR_RETURN(summary.manifest, MakeManifest(dataset, entries, summary.skipped.size()));
  RETURN_IF_ERROR(CheckTarget(fs, directory, summary.manifest, options.force, &summary.unchanged));

  if (!options.dry_run) RETURN_IF_ERROR(WriteCatalog(fs, directory, entries, options.force, &summary));
  summary.seconds = absl::ToDoubleSeconds(Clock::Real().Now() - start);
  return summary;
}

}  // namespace doppel
