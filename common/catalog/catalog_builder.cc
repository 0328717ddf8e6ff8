#include "common/catalog/catalog_builder.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "common/base/clock.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog_writer.h"
#include "common/catalog/dataset_reading.h"
#include "common/catalog/entry_collector.h"
#include "common/catalog/import_journal.h"

namespace doppel {
namespace {

// Sources at the end that no sample points to are not worth a newer format.
std::vector<v1::CatalogSource> UsedSources(const DatasetReader& dataset, const EntryCollector& entries) {
  std::vector<v1::CatalogSource> sources = dataset.sources();
  size_t used = 0;
  for (uint64_t s = 0; s < entries.num_samples(); ++s) {
    used = std::max<size_t>(used, size_t{entries.sample(s).source} + 1);
  }
  while (sources.size() > used && sources.back().kind() == v1::CatalogSource::KIND_RECORD_PARTS) {
    sources.pop_back();
  }
  return sources;
}

// Leaves an equal catalog alone.
absl::Status WriteCatalog(FileSystem& fs, const std::string& directory, const EntryCollector& entries,
                          bool force, CatalogBuildSummary* summary) {
  const std::string temporary = TemporaryCatalog(directory);
  if (fs.Exists(temporary)) RETURN_IF_ERROR(fs.RemoveRecursively(temporary));
  RETURN_IF_ERROR(fs.MakeDirectories(temporary));
  RETURN_IF_ERROR(WriteCatalogTables(fs, temporary, entries, summary->skipped, &summary->manifest));
  // Once more, now that the tables' digests are known.
  RETURN_IF_ERROR(CheckCatalogTarget(fs, directory, summary->manifest, force, &summary->unchanged));
  if (summary->unchanged) {
    // It may be that of an import that died between its rename and this.
    RETURN_IF_ERROR(fs.SyncDirectory(DirectoryOf(directory)));
    return fs.RemoveRecursively(temporary);
  }
  return PublishCatalog(fs, directory, summary->manifest);
}

}  // namespace

absl::StatusOr<CatalogBuildSummary> BuildCatalog(const DatasetReader& dataset, const std::string& target,
                                                 const CatalogBuildOptions& options, FileSystem& fs) {
  const std::string directory = CatalogDirectory(target);
  const absl::Time start = Clock::Real().Now();
  RETURN_IF_ERROR(RestoreOldCatalog(fs, directory));

  std::unique_ptr<ImportJournal> journal;
  if (options.resume && !options.dry_run && dataset.num_parts() > 1) {
    ASSIGN_OR_RETURN(journal, ImportJournal::Open(fs, directory, dataset));
  }
  EntryCollector entries;
  CatalogBuildSummary summary;
  RETURN_IF_ERROR(ReadDataset(dataset, options, journal.get(), &entries, &summary));
  if (entries.num_samples() == 0) return NothingFound(dataset, summary.skipped);
  summary.manifest =
      MakeCatalogManifest(dataset.format(), UsedSources(dataset, entries), entries, summary.skipped.size());
  RETURN_IF_ERROR(CheckCatalogTarget(fs, directory, summary.manifest, options.force, &summary.unchanged));

  if (!options.dry_run) RETURN_IF_ERROR(WriteCatalog(fs, directory, entries, options.force, &summary));
  if (journal != nullptr) RETURN_IF_ERROR(journal->Remove());
  summary.seconds = absl::ToDoubleSeconds(Clock::Real().Now() - start);
  return summary;
}

}  // namespace doppel
