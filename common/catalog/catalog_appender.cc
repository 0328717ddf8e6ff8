#include "common/catalog/catalog_appender.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog.h"
#include "common/catalog/catalog_format.h"
#include "common/catalog/catalog_version.h"
#include "common/catalog/catalog_writer.h"
#include "common/catalog/dataset_reading.h"
#include "common/catalog/entry_collector.h"
#include "common/catalog/import_journal.h"
#include "common/catalog/manifest.h"
#include "common/catalog/raw_appending.h"
#include "common/catalog/version_writer.h"
#include "common/io/atomic_file.h"

namespace doppel {
namespace {

// What an append that died, or one whose end was cut off, has left there: all that the manifest does not
// name.
absl::Status RemoveLeftovers(FileSystem& fs, const std::string& directory,
                             const v1::CatalogManifest& manifest) {
  // The manifest may be that of an append that died between its rename and this: until it is sure to stay the
  // tables of the version before are not left over, and nobody may hear that the data is there.
  RETURN_IF_ERROR(fs.SyncDirectory(directory));
  std::set<std::string> named = {catalog_format::kManifest};
  for (const v1::FileDigest& file : manifest.files()) named.insert(file.name());
  for (const v1::CatalogSource& source : manifest.sources()) named.insert(source.path());
  ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(directory));
  for (const std::string& name : names) {
    const bool ours = absl::EndsWith(name, ".tbl") || absl::StartsWith(name, catalog_format::kManifest) ||
                      (absl::StartsWith(name, "skipped") && absl::EndsWith(name, ".jsonl")) ||
                      IsAppendedShard(name);
    if (!ours || named.count(name) > 0) continue;
    RETURN_IF_ERROR(fs.Remove(absl::StrCat(directory, "/", name)));
  }
  return absl::OkStatus();
}

std::string JoinSplits(const Catalog& catalog) {
  return absl::StrJoin(catalog.splits(), ", ", [](std::string* out, const CatalogSplitInfo& split) {
    absl::StrAppend(out, split.name);
  });
}

// A split more must not change what a request without one means.
absl::Status CheckSplits(const Catalog& catalog, const EntryCollector& entries) {
  if (entries.has_unnamed_split()) {
    return absl::InvalidArgumentError(absl::StrCat("the data names no split, the catalog ",
                                                   catalog.directory(), " has ", JoinSplits(catalog),
                                                   ": --split NAME says which one it belongs to"));
  }
  const bool has_train = catalog.splits().front().name == "train";
  for (const EntryCollector::Split& split : entries.splits()) {
    const bool known = std::any_of(catalog.splits().begin(), catalog.splits().end(),
                                   [&](const CatalogSplitInfo& other) { return other.name == split.name; });
    if (known || has_train) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("the data has a split \"", absl::CEscape(split.name), "\", the catalog ",
                     catalog.directory(), " has ", JoinSplits(catalog),
                     " and no \"train\": --split NAME takes all samples into one that it has"));
  }
  return absl::OkStatus();
}

// Holds the data against the catalog: what is new, and where it belongs.
class Comparison {
 public:
  // `raw`: what the samples become in a catalog of raw pixels; null in others.
  Comparison(const Catalog& catalog, const std::vector<v1::CatalogSource>& sources,
             const EntryCollector& entries, const RawAppending* raw, CatalogBuildSummary* summary)
      : catalog_(catalog), sources_(sources), entries_(entries), raw_(raw), summary_(*summary) {}

  absl::StatusOr<std::vector<IdentityAddition>> Run() {
    summary_.new_identities = summary_.extended_identities = summary_.new_samples = 0;
    for (const EntryCollector::Split& split : entries_.splits()) {
      for (uint64_t i = 0; i < split.identities; ++i) {
        RETURN_IF_ERROR(Compare(split.name, entries_.identities()[split.first_identity + i]));
      }
    }
    // Those that are there already come first, whatever their splits.
    std::stable_sort(
        additions_.begin(), additions_.end(),
        [](const IdentityAddition& a, const IdentityAddition& b) { return a.identity < b.identity; });
    uint64_t next = catalog_.num_identities();
    for (IdentityAddition& addition : additions_) {
      if (addition.identity == IdentityAddition::kNew) addition.identity = next++;
    }
    if (next > std::numeric_limits<uint32_t>::max()) {
      return absl::ResourceExhaustedError("more than 2^32 identities: split the data into several catalogs");
    }
    return std::move(additions_);
  }

 private:
  uint64_t Find(const std::string& split, absl::string_view name) const {
    for (const CatalogSplitInfo& range : catalog_.sorted_ranges()) {
      if (range.name != split) continue;
      const std::optional<uint64_t> found = FindInRange(catalog_, range, name);
      if (found.has_value()) return *found;
    }
    return IdentityAddition::kNew;
  }

  absl::Status Compare(const std::string& split, const EntryCollector::Identity& arrived) {
    IdentityAddition addition;
    addition.identity = Find(split, arrived.name);
    addition.split = split;
    addition.name = arrived.name;
    absl::flat_hash_map<absl::string_view, uint64_t> known;
    if (addition.identity != IdentityAddition::kNew) {
      const IdentitySamples samples = catalog_.Samples(addition.identity);
      known.reserve(samples.count);
      for (uint64_t j = 0; j < samples.count; ++j) known[catalog_.SampleKey(samples[j])] = samples[j];
    }
    for (uint64_t s = arrived.first; s < arrived.end; ++s) {
      const EntryCollector::Sample& sample = entries_.sample(s);
      const auto found = known.find(sample.key());
      if (found == known.end()) {
        addition.entries.push_back(s);
        continue;
      }
      const SampleRecord record = catalog_.Sample(found->second);
      absl::StatusOr<bool> same = record.size == sample.size && record.crc32c == sample.crc32c;
      if (raw_ != nullptr) same = raw_->Same(record, sample);
      if (absl::IsInvalidArgument(same.status())) {
        Name(sample, "corrupt image", std::string(same.status().message()));
        continue;
      }
      RETURN_IF_ERROR(same.status());
      if (*same) {
        ++summary_.known_samples;
      } else {
        Name(sample, "changed",
             absl::StrCat("identity \"", absl::CEscape(arrived.name),
                          "\" has this key already, with another image: that one stays"));
      }
    }
    if (addition.entries.empty()) return absl::OkStatus();
    ++(addition.identity == IdentityAddition::kNew ? summary_.new_identities : summary_.extended_identities);
    summary_.new_samples += addition.entries.size();
    additions_.push_back(std::move(addition));
    return absl::OkStatus();
  }

  void Name(const EntryCollector::Sample& sample, const std::string& reason, std::string detail) {
    summary_.skipped.push_back(
        {sources_[sample.source].path(), std::string(sample.key()), reason, std::move(detail)});
    ++summary_.skipped_by_reason[reason];
  }

  const Catalog& catalog_;
  const std::vector<v1::CatalogSource>& sources_;
  const EntryCollector& entries_;
  const RawAppending* const raw_;
  CatalogBuildSummary& summary_;
  std::vector<IdentityAddition> additions_;
};

absl::StatusOr<std::shared_ptr<const Catalog>> OpenBase(const std::string& directory,
                                                        const CatalogAppendOptions& options) {
  absl::StatusOr<std::shared_ptr<const Catalog>> catalog = Catalog::Open(directory);
  if (absl::IsNotFound(catalog.status())) {
    return absl::NotFoundError(
        absl::StrCat(catalog.status().message(),
                     ". --append adds to a catalog that is there: leave it out for the first"));
  }
  RETURN_IF_ERROR(catalog.status());
  if ((*catalog)->RawShape(0).bytes() > 0 && !options.decode) {
    return absl::FailedPreconditionError(
        absl::StrCat(directory,
                     " holds raw pixels, and nothing here decodes images: append to the catalog "
                     "that it was packed from, and pack that again"));
  }
  return catalog;
}

// One append, from what was read to the new version.
class Appending {
 public:
  Appending(FileSystem& fs, const Catalog& catalog, const v1::CatalogManifest& base,
            const DatasetReader& dataset, const CatalogAppendOptions& options, CatalogBuildSummary* summary)
      : fs_(fs),
        catalog_(catalog),
        base_(base),
        dataset_(dataset),
        options_(options),
        dry_run_(options.build.dry_run),
        summary_(*summary) {}

  absl::Status Run(const EntryCollector& entries) {
    const PixelShape shape = catalog_.RawShape(0);
    if (shape.bytes() == 0) return Write(entries, nullptr);
    RawAppending::Options raw;
    raw.shape = shape;
    raw.decode = options_.decode;
    raw.version = VersionWriter::NextVersion(base_);
    raw.first_sample = base_.samples();
    raw.shard_bytes = options_.shard_bytes;
    raw.threads = options_.build.threads;
    raw.dry_run = dry_run_;
    RawAppending converting(fs_, catalog_.directory(), dataset_, entries, std::move(raw));
    return Write(entries, &converting);
  }

 private:
  // `raw`: null if the images stay as they are.
  absl::Status Write(const EntryCollector& entries, RawAppending* raw) {
    ASSIGN_OR_RETURN(const std::vector<IdentityAddition> additions,
                     Comparison(catalog_, dataset_.sources(), entries, raw, &summary_).Run());
    if (options_.build.strict && !summary_.skipped.empty()) return StrictError(summary_.skipped.back());
    summary_.unchanged = additions.empty();
    if (!dry_run_) RETURN_IF_ERROR(RemoveLeftovers(fs_, catalog_.directory(), base_));
    if (summary_.unchanged) return absl::OkStatus();
    // Sums of damaged tables must not become those of good ones.
    RETURN_IF_ERROR(catalog_.Verify());
    const absl::Status status =
        raw == nullptr ? WriteTables(dataset_.sources(), entries, additions) : Convert(additions, raw);
    // A full disk should not stay full; if this fails as well the next append does it.
    if ((!status.ok() || summary_.unchanged) && !dry_run_)
      RemoveLeftovers(fs_, catalog_.directory(), base_).IgnoreError();
    RETURN_IF_ERROR(status);
    return summary_.unchanged || dry_run_ ? absl::OkStatus() : Publish();
  }

  absl::Status Convert(const std::vector<IdentityAddition>& additions, RawAppending* raw) {
    const size_t before = summary_.skipped.size();
    RETURN_IF_ERROR(raw->Write(additions, &summary_.skipped));
    for (size_t i = before; i < summary_.skipped.size(); ++i)
      ++summary_.skipped_by_reason[summary_.skipped[i].reason];
    if (options_.build.strict && summary_.skipped.size() > before)
      return StrictError(summary_.skipped.back());
    // All of them are new, but identities may be gone with what could not be decoded.
    ASSIGN_OR_RETURN(const std::vector<IdentityAddition> converted,
                     Comparison(catalog_, raw->sources(), raw->converted(), nullptr, &summary_).Run());
    summary_.unchanged = converted.empty();
    if (summary_.unchanged) return absl::OkStatus();
    return WriteTables(raw->sources(), raw->converted(), converted);
  }

  absl::Status WriteTables(const std::vector<v1::CatalogSource>& sources, const EntryCollector& entries,
                           const std::vector<IdentityAddition>& additions) {
    VersionWriter writer(fs_, catalog_, base_, dataset_.format(), sources, entries, additions);
    ASSIGN_OR_RETURN(summary_.manifest, writer.Describe(summary_.skipped.size()));
    return dry_run_ ? absl::OkStatus() : writer.Write(summary_.skipped, &summary_.manifest);
  }

  absl::Status Publish() {
    const std::string& directory = catalog_.directory();
    ASSIGN_OR_RETURN(const std::string json, FormatCatalogManifest(summary_.manifest));
    RETURN_IF_ERROR(WriteFileAtomically(fs_, absl::StrCat(directory, "/", catalog_format::kManifest), json));
    // The new version is there; what cannot be removed now is removed by the next append.
    const absl::Status removed = RemoveLeftovers(fs_, directory, summary_.manifest);
    if (!removed.ok()) DOPPEL_LOG(kWarning, "tables of the old version remain: ", removed.ToString());
    return absl::OkStatus();
  }

  FileSystem& fs_;
  const Catalog& catalog_;
  const v1::CatalogManifest& base_;
  const DatasetReader& dataset_;
  const CatalogAppendOptions& options_;
  const bool dry_run_;
  CatalogBuildSummary& summary_;
};

}  // namespace

absl::StatusOr<CatalogBuildSummary> AppendToCatalog(const DatasetReader& dataset, const std::string& target,
                                                    const CatalogAppendOptions& options, FileSystem& fs) {
  const absl::Time start = Clock::Real().Now();
  const std::string directory = CatalogDirectory(target);
  RETURN_IF_ERROR(RestoreOldCatalog(fs, directory));
  ASSIGN_OR_RETURN(const v1::CatalogManifest base, ReadCatalogManifest(fs, directory));
  ASSIGN_OR_RETURN(const std::shared_ptr<const Catalog> catalog, OpenBase(directory, options));

  std::unique_ptr<ImportJournal> journal;
  if (options.build.resume && !options.build.dry_run && dataset.num_parts() > 1) {
    ASSIGN_OR_RETURN(journal, ImportJournal::Open(fs, directory, dataset));
  }
  EntryCollector entries;
  entries.ForceSplit(options.split);
  if (catalog->splits().size() == 1) entries.NameUnnamedSplit(catalog->splits().front().name);
  CatalogBuildSummary summary;
  RETURN_IF_ERROR(ReadDataset(dataset, options.build, journal.get(), &entries, &summary));
  if (entries.num_samples() == 0) return NothingFound(dataset, summary.skipped);
  RETURN_IF_ERROR(CheckSplits(*catalog, entries));
  summary.manifest = base;
  RETURN_IF_ERROR(Appending(fs, *catalog, base, dataset, options, &summary).Run(entries));
  if (journal != nullptr) RETURN_IF_ERROR(journal->Remove());
  summary.seconds = absl::ToDoubleSeconds(Clock::Real().Now() - start);
  return summary;
}

}  // namespace doppel
