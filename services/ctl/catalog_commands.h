#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "common/catalog/catalog.h"
#include "services/ctl/console.h"

namespace doppel {

struct ImportOptions {
  std::string format = "auto";
  std::string path;
  std::string catalog;
  bool strict = false;
  bool force = false;
  bool dry_run = false;
  int threads = 2;
};
// Imports and prints what came in and what was left out.
absl::Status RunImport(const ImportOptions& options, const Console& console);

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
