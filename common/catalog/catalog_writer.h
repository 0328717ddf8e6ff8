#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/catalog/entry_collector.h"
#include "common/catalog/readers/reader.h"
#include "common/io/file_system.h"
#include "doppel/v1/storage.pb.h"

// How a catalog comes to its directory: what an import and a packing share. Everything is written below
// TemporaryCatalog(directory) first; then the folder is renamed, the old one put aside for that moment.
namespace doppel {

// "DIR.tmp".
std::string TemporaryCatalog(const std::string& directory);
// Without slashes at its end.
std::string CatalogDirectory(const std::string& target);

// Counts, splits, fingerprint and version. `entries` is sorted. The tables' digests are not known yet.
v1::CatalogManifest MakeCatalogManifest(const std::string& format,
                                        const std::vector<v1::CatalogSource>& sources,
                                        const EntryCollector& entries, uint64_t skipped);

// What may be done with what `directory` holds now: ALREADY_EXISTS if it is another catalog, or the only home
// of packed images (`force` permits both); FAILED_PRECONDITION if it is something else. `unchanged`: it is
// this very catalog.
absl::Status CheckCatalogTarget(FileSystem& fs, const std::string& directory,
                                const v1::CatalogManifest& manifest, bool force, bool* unchanged);

// Writes the tables and skipped.jsonl into `directory` and their digests into the manifest.
absl::Status WriteCatalogTables(FileSystem& fs, const std::string& directory, const EntryCollector& entries,
                                const std::vector<SkippedRecord>& skipped, v1::CatalogManifest* manifest);

// One JSON object per line, synced, with the digest into the manifest.
absl::Status WriteSkippedRecords(FileSystem& fs, const std::string& directory, const std::string& name,
                                 const std::vector<SkippedRecord>& skipped, v1::CatalogManifest* manifest);

// The manifest, last of the files of TemporaryCatalog(directory), and the renames.
absl::Status PublishCatalog(FileSystem& fs, const std::string& directory,
                            const v1::CatalogManifest& manifest);

// Puts the old catalog back if a writer died between the two renames.
absl::Status RestoreOldCatalog(FileSystem& fs, const std::string& directory);

}  // namespace doppel
