#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/catalog/readers/reader.h"
#include "common/io/file_system.h"
#include "doppel/v1/storage.pb.h"

namespace doppel {

struct CatalogBuildOptions {
  bool strict = false;   // the first record that cannot be used fails the import
  bool force = false;    // replace a catalog that holds other data
  bool dry_run = false;  // read and check everything, write nothing
  // Keep what has been read in `directory`.journal until the catalog is there, and go on with what an import
  // that was killed has left there.
  bool resume = false;
  int threads = 2;
  bool quiet = true;  // no progress bar on stderr
};

struct CatalogBuildSummary {
  v1::CatalogManifest manifest;
  // In the order of the data, duplicates last. The catalog keeps them in skipped.jsonl.
  std::vector<SkippedRecord> skipped;
  std::map<std::string, uint64_t> skipped_by_reason;
  // The directory holds this very catalog already: nothing was written.
  bool unchanged = false;
  // Parts that an earlier import had read already.
  uint64_t resumed_parts = 0;
  double seconds = 0;
  // Of an append alone (catalog_appender.h): what it has brought, and samples that the catalog had already.
  uint64_t new_identities = 0;
  uint64_t extended_identities = 0;
  uint64_t new_samples = 0;
  uint64_t known_samples = 0;
};

// Imports a data set into `directory` (specification: docs/formats.md). Same data → same fingerprint and same
// tables, wherever the files lie, in whatever order and with however many threads they are read.
//
// Order: split "train" first, the others by name; identities by name within; samples by key within. Samples
// without a split form "all" if no sample has one, else "none". An identity name that occurs in two splits is
// two identities. Of two samples with the same (split, identity, key) the first by (source, offset) stays,
// the others are named.
//
// Never half-written: everything goes to `directory`.tmp, is synced, and renamed. An existing catalog with
// another fingerprint is replaced only with `force` (ALREADY_EXISTS otherwise), and anything else in
// `directory` never (FAILED_PRECONDITION). While one is replaced its old self is kept as `directory`.old,
// from where the next import restores it if this one died in between.
//
// Memory while importing: 48 bytes per sample + its key, about 100 bytes per identity + its name, and the
// skipped records. 100 M samples with keys of 24 bytes: 7.2 GB.
absl::StatusOr<CatalogBuildSummary> BuildCatalog(const DatasetReader& dataset, const std::string& directory,
                                                 const CatalogBuildOptions& options,
                                                 FileSystem& fs = PosixFileSystem());

}  // namespace doppel
