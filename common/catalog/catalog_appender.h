#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/catalog/catalog_builder.h"
#include "common/catalog/catalog_packer.h"
#include "common/catalog/readers/reader.h"
#include "common/io/file_system.h"

namespace doppel {

struct CatalogAppendOptions {
  CatalogBuildOptions build;  // `force` has no meaning
  // All samples are of this split, whatever the data says. Empty: what the data says; data that names none
  // belongs to the catalog's split if it has one alone.
  std::string split;
  // A catalog of raw pixels: turns the images into pixels of its size.
  PixelDecoder decode;
  uint64_t shard_bytes = uint64_t{1} << 30;  // of the shards of such pixels
};

// Adds a data set to the catalog in `directory`, which becomes a new version of it (specification:
// docs/formats.md). Identities and samples keep their numbers. A sample of an identity that is there, by
// split and name, joins it; other identities get the numbers behind the last one, by split and name, and the
// new samples the numbers behind the last sample, by identity and key. A key that its identity has already is
// left out: counted in `known_samples` if the image is the same, and else named as "changed". If nothing is
// new the catalog stays as it is (`unchanged`).
//
// Atomic: the tables of the new version are written beside the old ones, synced, and take their place when
// manifest.json is replaced; only then the old ones are removed. A crash leaves the old version or the new
// one, and what is left of the other is removed by the next append. Who has the old version open reads on.
// Earlier versions can be read from the new one (catalog_version.h).
//
// A catalog of raw pixels stays one: the new images are decoded to its size and written to tar shards of
// their own in `directory`, before the tables. What cannot be decoded is left out and named, and a key's
// image is the same if it becomes the same pixels.
//
// NOT_FOUND: there is no catalog. FAILED_PRECONDITION: it holds raw pixels and `decode` is not set.
// INVALID_ARGUMENT: the data's splits do not go with the catalog's; no usable sample. DATA_LOSS: the
// catalog's tables are damaged, or `strict` and a record cannot be used. Memory: as BuildCatalog, for the
// appended samples alone.
absl::StatusOr<CatalogBuildSummary> AppendToCatalog(const DatasetReader& dataset,
                                                    const std::string& directory,
                                                    const CatalogAppendOptions& options,
                                                    FileSystem& fs = PosixFileSystem());

}  // namespace doppel
