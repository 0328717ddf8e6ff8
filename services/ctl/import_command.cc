#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/progress.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog_builder.h"
#include "services/ctl/catalog_commands.h"
#include "services/ctl/table.h"

namespace doppel {
namespace {

constexpr size_t kShownSkips = 20;

std::string Place(const SkippedRecord& skip) {
  return skip.record.empty() ? skip.file : absl::StrCat(skip.file, ": ", skip.record);
}

std::string RenderSkipped(const CatalogBuildSummary& summary, const std::string& catalog, bool colour) {
  if (summary.skipped.empty()) return "";
  std::string text = "\nleft out\n";
  for (const auto& [reason, count] : summary.skipped_by_reason) {
    absl::StrAppend(&text, "  ", FormatCount(count), " ", reason, "\n");
  }
  Table table({{"RECORD"}, {"REASON"}, {"DETAIL"}});
  for (size_t i = 0; i < summary.skipped.size() && i < kShownSkips; ++i) {
    table.AddRow({Place(summary.skipped[i]), summary.skipped[i].reason, summary.skipped[i].detail});
  }
  absl::StrAppend(&text, "\n", table.Render(colour));
  if (summary.skipped.size() > kShownSkips) {
    absl::StrAppend(&text, "… and ", FormatCount(summary.skipped.size() - kShownSkips),
                    " more: all of them are in ", catalog, "/skipped.jsonl\n");
  }
  return text;
}

std::string SummaryJson(const CatalogBuildSummary& summary, nlohmann::ordered_json json, bool dry_run) {
  nlohmann::ordered_json skipped = {{"count", summary.skipped.size()},
                                    {"by_reason", nlohmann::json::object()},
                                    {"first", nlohmann::json::array()}};
  for (const auto& [reason, count] : summary.skipped_by_reason) skipped["by_reason"][reason] = count;
  for (size_t i = 0; i < summary.skipped.size() && i < kShownSkips; ++i) {
    const SkippedRecord& skip = summary.skipped[i];
    skipped["first"].push_back(
        {{"file", skip.file}, {"record", skip.record}, {"reason", skip.reason}, {"detail", skip.detail}});
  }
  json["format"] = summary.manifest.format();
  json["skipped"] = skipped;
  json["unchanged"] = summary.unchanged;
  json["dry_run"] = dry_run;
  json["seconds"] = summary.seconds;
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

// Nothing was written: what the manifest alone tells.
absl::Status PrintDryRun(const CatalogBuildSummary& summary, const ImportOptions& options,
                         const Console& console) {
  if (console.structured()) {
    const nlohmann::ordered_json json = {{"catalog", options.catalog},
                                         {"fingerprint", summary.manifest.fingerprint()},
                                         {"identities", summary.manifest.identities()},
                                         {"samples", summary.manifest.samples()}};
    return PrintJson(console, SummaryJson(summary, json, true));
  }
  console.out << RenderFields({{"would write", options.catalog},
                               {"fingerprint", summary.manifest.fingerprint()},
                               {"identities", FormatCount(summary.manifest.identities())},
                               {"samples", FormatCount(summary.manifest.samples())}})
              << RenderSkipped(summary, options.catalog, console.colour);
  return absl::OkStatus();
}

}  // namespace

absl::Status RunImport(const ImportOptions& options, const Console& console) {
  ASSIGN_OR_RETURN(const std::unique_ptr<DatasetReader> dataset, OpenDataset(options.format, options.path));
  CatalogBuildOptions build;
  build.strict = options.strict;
  build.force = options.force;
  build.dry_run = options.dry_run;
  build.threads = options.threads;
  build.quiet = console.quiet;
  ASSIGN_OR_RETURN(const CatalogBuildSummary summary, BuildCatalog(*dataset, options.catalog, build));
  if (options.dry_run) return PrintDryRun(summary, options, console);
  ASSIGN_OR_RETURN(const std::shared_ptr<const Catalog> catalog, Catalog::Open(options.catalog));
  if (console.structured()) {
    return PrintJson(console,
                     SummaryJson(summary, nlohmann::ordered_json::parse(CatalogJson(*catalog)), false));
  }
  console.out << RenderCatalog(*catalog, console.colour)
              << RenderSkipped(summary, options.catalog, console.colour)
              << (summary.unchanged ? "\nThe catalog holds this data already: nothing was written."
                                    : "\nImported ")
              << (summary.unchanged ? "" : dataset->format())
              << absl::StrFormat(" (%.1f s)\n", summary.seconds);
  return absl::OkStatus();
}

}  // namespace doppel
