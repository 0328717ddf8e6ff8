#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/catalog/catalog.h"
#include "common/catalog/catalog_packer.h"
#include "common/catalog/readers/reader.h"
#include "services/ctl/console.h"

namespace doppel {

struct ImportOptions {
  std::string format = "auto";
  std::string path;
  std::string catalog;
  std::string root;  // csv: where relative paths start from
  bool follow_links = false;
  bool resume = true;
  bool append = false;  // to the catalog that is there
  std::string split;    // append: of all samples; empty: what the data says
  bool strict = false;
  bool force = false;
  bool dry_run = false;
  int threads = 2;
};
// Imports and prints what came in and what was left out.
absl::Status RunImport(const ImportOptions& options, const Console& console);

struct PackCommandOptions {
  std::string catalog;
  std::string output;
  std::string raw;        // HEIGHTxWIDTH; empty: the images as they are
  uint32_t channels = 0;  // 1 or 3; with `raw`
  uint64_t shard_bytes = uint64_t{1} << 30;
  bool skip_damaged = false;
  bool force = false;
  int threads = 2;
};
// Rewrites a catalog with its images and prints what came of it.
absl::Status RunPack(const PackCommandOptions& options, const Console& console);

// Decodes images for raw pixels.
PixelDecoder ImageDecoder();

// "48x48" → height 48, width 48. INVALID_ARGUMENT.
absl::StatusOr<PixelShape> ParseRawShape(const std::string& text, uint32_t channels);

// What an import or a packing left out, for people: counts by reason and the first twenty.
std::string RenderSkipped(const std::vector<SkippedRecord>& skipped,
                          const std::map<std::string, uint64_t>& by_reason, const std::string& catalog,
                          bool colour);
// The same as JSON text: {"count", "by_reason", "first"}.
std::string SkippedJson(const std::vector<SkippedRecord>& skipped,
                        const std::map<std::string, uint64_t>& by_reason);

struct InspectOptions {
  std::string catalog;
  std::string identity;  // show this one
  bool verify = false;   // tables and every sample; DATA_LOSS names the first that differs
  int threads = 2;
};
absl::Status RunInspect(const InspectOptions& options, const Console& console);

// ("1", n), ("2", n), ("3-4", n), ("5-8", n), …: identities by their number of samples, up to the last that
// occurs.
std::vector<std::pair<std::string, uint64_t>> SamplesHistogram(const Catalog& catalog);

// The histogram and the splits as people read them; shared by both commands.
std::string RenderCatalog(const Catalog& catalog, bool colour);
// The same facts as a JSON object's text.
std::string CatalogJson(const Catalog& catalog);

}  // namespace doppel
