#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/io/file_system.h"
#include "doppel/v1/storage.pb.h"

namespace doppel {

// A catalog's manifest: protobuf's JSON, so that people can read it. The file holds its own checksum, which
// is checked here if it is there (older programs wrote none) and is not part of what is returned. NOT_FOUND
// if there is no manifest, DATA_LOSS if it cannot be understood or its checksum is another one,
// FAILED_PRECONDITION if a newer program wrote it.
absl::StatusOr<v1::CatalogManifest> ReadCatalogManifest(FileSystem& fs, const std::string& directory);

// With its checksum. The same message gives the same bytes. INVALID_ARGUMENT if a name is not UTF-8.
absl::StatusOr<std::string> FormatCatalogManifest(const v1::CatalogManifest& manifest);

// The lowest version whose programs read this manifest rightly.
uint32_t RequiredManifestVersion(const v1::CatalogManifest& manifest);

}  // namespace doppel
