#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/catalog/catalog.h"

namespace doppel {

// Whether `fingerprint` is the catalog's or that of a version that it was appended to.
bool HasVersion(const Catalog& catalog, absl::string_view fingerprint);

// The catalog as it was when its fingerprint was this: with the identities, samples, splits and names of that
// version alone, under the same numbers. It reads from the newest one's tables and sources, so old versions
// need no files of their own. FAILED_PRECONDITION names both fingerprints if it was never so.
absl::StatusOr<std::shared_ptr<const Catalog>> CatalogAtVersion(std::shared_ptr<const Catalog> newest,
                                                                absl::string_view fingerprint);

// The identity of this name in one of the catalog's sorted_ranges.
std::optional<uint64_t> FindInRange(const Catalog& catalog, const CatalogSplitInfo& range,
                                    absl::string_view name);
// All identities of this name, one per split at most, in the splits' order.
std::vector<uint64_t> FindIdentities(const Catalog& catalog, absl::string_view name);
// What Catalog::Split says.
absl::StatusOr<CatalogSplitInfo> FindSplit(const Catalog& catalog, absl::string_view name);

}  // namespace doppel
