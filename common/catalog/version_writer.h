#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/catalog/catalog.h"
#include "common/catalog/entry_collector.h"
#include "common/catalog/readers/reader.h"
#include "common/io/file_system.h"
#include "doppel/v1/storage.pb.h"

namespace doppel {

// What an append brings to one identity.
struct IdentityAddition {
  static constexpr uint64_t kNew = std::numeric_limits<uint64_t>::max();
  uint64_t identity = kNew;  // its number
  absl::string_view split;
  absl::string_view name;
  std::vector<uint64_t> entries;  // of the collector: its new samples, by key; at least one
};

// The tables of a catalog's next version, beside those that are there. All that the constructor is given
// outlives the object. Not thread-safe.
class VersionWriter {
 public:
  // `format` and `sources`: of the data that `entries` are of. `additions`: by identity; new identities have
  // the numbers behind the catalog's, by split and name.
  VersionWriter(FileSystem& fs, const Catalog& catalog, const v1::CatalogManifest& base,
                const std::string& format, const std::vector<v1::CatalogSource>& sources,
                const EntryCollector& entries, const std::vector<IdentityAddition>& additions);

  // The number of the version that is made of this one.
  static uint32_t NextVersion(const v1::CatalogManifest& base);
  // The new version's manifest without the tables' digests.
  absl::StatusOr<v1::CatalogManifest> Describe(uint64_t skipped);
  // After Describe: writes and syncs the tables, with their digests into the manifest, and the folder.
  absl::Status Write(const std::vector<SkippedRecord>& skipped, v1::CatalogManifest* manifest);

 private:
  absl::Status DescribeSplits(v1::CatalogManifest* manifest) const;
  void DescribeSources(v1::CatalogManifest* manifest);
  std::string Fingerprint(const v1::CatalogManifest& manifest) const;
  // Null: nothing is added to it.
  const IdentityAddition* AdditionTo(uint64_t identity) const;
  absl::string_view NameOf(uint64_t identity) const;
  absl::Status WriteIdentities(v1::CatalogManifest* manifest);
  absl::Status WriteOrder(v1::CatalogManifest* manifest);
  absl::Status WriteSamples(v1::CatalogManifest* manifest);
  absl::Status WriteNames(v1::CatalogManifest* manifest);
  absl::Status WriteKeys(v1::CatalogManifest* manifest);

  FileSystem& fs_;
  const Catalog& catalog_;
  const v1::CatalogManifest& base_;
  const std::string format_;
  const std::vector<v1::CatalogSource>& dataset_sources_;
  const EntryCollector& entries_;
  const std::vector<IdentityAddition>& additions_;
  std::vector<uint32_t> sources_;  // the data set's number → the manifest's
  uint64_t identities_ = 0;        // of the new version
  uint64_t samples_ = 0;
  uint64_t name_bytes_ = 0;
  uint64_t key_bytes_ = 0;
};

}  // namespace doppel
