#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "common/base/executor.h"
#include "common/base/progress.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog_version.h"
#include "services/ctl/catalog_commands.h"
#include "services/ctl/table.h"

namespace doppel {
namespace {

constexpr int64_t kVerifyGrain = 256;

// Errors of the samples, as many as there are and the one with the lowest number.
struct Damage {
  absl::Mutex mutex;
  uint64_t count ABSL_GUARDED_BY(mutex) = 0;
  int64_t first ABSL_GUARDED_BY(mutex) = 0;
  absl::Status status ABSL_GUARDED_BY(mutex);

  void Add(int64_t sample, const absl::Status& error) {
    absl::MutexLock lock(&mutex);
    if (count++ > 0 && sample > first) return;
    first = sample;
    status = error;
  }
};

absl::Status VerifyAll(const Catalog& catalog, int threads, bool quiet) {
  RETURN_IF_ERROR(catalog.Verify());
  Progress progress({"verify", "samples", catalog.num_samples(), stderr, quiet});
  Damage damage;
  ParallelFor(static_cast<int64_t>(catalog.num_samples()), kVerifyGrain, threads,
              [&](int64_t begin, int64_t end) {
                for (int64_t sample = begin; sample < end; ++sample) {
                  const auto bytes = catalog.ReadChecked(static_cast<uint64_t>(sample));
                  if (!bytes.ok()) damage.Add(sample, bytes.status());
                }
                progress.Add(static_cast<uint64_t>(end - begin));
              });
  progress.Finish();
  absl::MutexLock lock(&damage.mutex);
  if (damage.count == 0) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat(damage.count, " of ", catalog.num_samples(),
                   " samples are not what was imported, the first: ", damage.status.message()));
}

absl::StatusOr<std::vector<uint64_t>> FindAll(const Catalog& catalog, const std::string& name) {
  RETURN_IF_ERROR(catalog.FindIdentity(name).status());
  return FindIdentities(catalog, name);
}

std::string SplitOf(const Catalog& catalog, uint64_t identity) {
  for (const CatalogSplitInfo& split : catalog.sorted_ranges()) {
    if (identity >= split.first_identity && identity < split.first_identity + split.identities)
      return split.name;
  }
  return "";
}

nlohmann::ordered_json IdentityJson(const Catalog& catalog, uint64_t identity) {
  nlohmann::ordered_json json = {{"identity", identity},
                                 {"name", std::string(catalog.IdentityName(identity))},
                                 {"split", SplitOf(catalog, identity)},
                                 {"samples", nlohmann::json::array()}};
  const IdentitySamples range = catalog.Samples(identity);
  for (uint64_t j = 0; j < range.count; ++j) {
    const uint64_t s = range[j];
    const SampleRecord record = catalog.Sample(s);
    json["samples"].push_back({{"sample", s},
                               {"key", std::string(catalog.SampleKey(s))},
                               {"path", catalog.SamplePath(s)},
                               {"contiguous", catalog.Contiguous(s)},
                               {"offset", record.offset},
                               {"size", record.size},
                               {"crc32c", absl::StrFormat("%08x", record.crc32c)}});
  }
  return json;
}

std::string RenderIdentity(const Catalog& catalog, uint64_t identity, bool wide, bool colour) {
  const IdentitySamples range = catalog.Samples(identity);
  std::string text = RenderFields({{"identity", absl::StrCat(identity)},
                                   {"name", std::string(catalog.IdentityName(identity))},
                                   {"split", SplitOf(catalog, identity)},
                                   {"samples", FormatCount(range.count)}});
  std::vector<Table::Column> columns = {
      {"SAMPLE", Table::Align::kRight}, {"KEY"}, {"BYTES", Table::Align::kRight}, {"CRC32C"}};
  if (wide) columns.insert(columns.end(), {{"OFFSET", Table::Align::kRight}, {"PATH"}});
  Table table(columns);
  for (uint64_t j = 0; j < range.count; ++j) {
    const uint64_t s = range[j];
    const SampleRecord record = catalog.Sample(s);
    table.AddRow({absl::StrCat(s), std::string(catalog.SampleKey(s)), absl::StrCat(record.size),
                  absl::StrFormat("%08x", record.crc32c), absl::StrCat(record.offset),
                  catalog.SamplePath(s)});
  }
  return absl::StrCat(text, "\n", table.Render(colour));
}

absl::Status ShowIdentity(const Catalog& catalog, const std::string& name, const Console& console) {
  ASSIGN_OR_RETURN(const std::vector<uint64_t> found, FindAll(catalog, name));
  if (!console.structured()) {
    for (size_t i = 0; i < found.size(); ++i) {
      console.out << (i > 0 ? "\n" : "") << RenderIdentity(catalog, found[i], console.wide(), console.colour);
    }
    return absl::OkStatus();
  }
  nlohmann::ordered_json json = {{"identities", nlohmann::json::array()}};
  for (const uint64_t identity : found) json["identities"].push_back(IdentityJson(catalog, identity));
  return PrintJson(console, json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
}

}  // namespace

absl::Status RunInspect(const InspectOptions& options, const Console& console) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const Catalog> catalog, Catalog::Open(options.catalog));
  if (options.verify) RETURN_IF_ERROR(VerifyAll(*catalog, std::max(options.threads, 1), console.quiet));
  if (!options.identity.empty()) return ShowIdentity(*catalog, options.identity, console);
  if (console.structured()) {
    auto json = nlohmann::ordered_json::parse(CatalogJson(*catalog));
    json["verified"] = options.verify;
    return PrintJson(console, json.dump(2));
  }
  console.out << RenderCatalog(*catalog, console.colour);
  if (options.verify) console.out << "\nTables and samples are what was imported.\n";
  return absl::OkStatus();
}

}  // namespace doppel
