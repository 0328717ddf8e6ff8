#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/progress.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog_appender.h"
#include "common/catalog/catalog_builder.h"
#include "common/catalog/catalog_lock.h"
#include "services/ctl/catalog_commands.h"
#include "services/ctl/table.h"

namespace doppel {
namespace {

struct Taken {
  CatalogBuildSummary summary;
  std::string format;
  std::string guess;  // why "auto" took this format; empty: it was named
  std::vector<std::string> notes;
};

nlohmann::ordered_json AppendedJson(const CatalogBuildSummary& summary) {
  return {{"version", summary.manifest.version()},
          {"new_identities", summary.new_identities},
          {"extended_identities", summary.extended_identities},
          {"new_samples", summary.new_samples},
          {"known_samples", summary.known_samples}};
}

std::string RenderAppended(const CatalogBuildSummary& summary) {
  return absl::StrCat("\nAppended ", FormatCount(summary.new_samples),
                      " samples: ", FormatCount(summary.new_identities), " new identities, ",
                      FormatCount(summary.extended_identities), " that were there; left ",
                      FormatCount(summary.known_samples), " out that the catalog had already.\n");
}

std::string SummaryJson(const Taken& taken, nlohmann::ordered_json json, const ImportOptions& options) {
  const CatalogBuildSummary& summary = taken.summary;
  if (options.append) json["appended"] = AppendedJson(summary);
  json["format"] = taken.format;
  json["guessed"] = taken.guess;
  json["notes"] = taken.notes;
  json["skipped"] = nlohmann::ordered_json::parse(SkippedJson(summary.skipped, summary.skipped_by_reason));
  json["unchanged"] = summary.unchanged;
  json["dry_run"] = options.dry_run;
  json["resumed_parts"] = summary.resumed_parts;
  json["seconds"] = summary.seconds;
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string RenderTaken(const Taken& taken) {
  std::string text;
  if (!taken.guess.empty())
    absl::StrAppend(&text, "\nformat: ", taken.format, ", because ", taken.guess, "\n");
  for (const std::string& note : taken.notes) absl::StrAppend(&text, "note: ", note, "\n");
  return text;
}

// Nothing was written: what the manifest alone tells.
absl::Status PrintDryRun(const Taken& taken, const ImportOptions& options, const Console& console) {
  const CatalogBuildSummary& summary = taken.summary;
  if (console.structured()) {
    const nlohmann::ordered_json json = {{"catalog", options.catalog},
                                         {"fingerprint", summary.manifest.fingerprint()},
                                         {"identities", summary.manifest.identities()},
                                         {"samples", summary.manifest.samples()}};
    return PrintJson(console, SummaryJson(taken, json, options));
  }
  console.out << RenderFields({{"would write", options.catalog},
                               {"fingerprint", summary.manifest.fingerprint()},
                               {"identities", FormatCount(summary.manifest.identities())},
                               {"samples", FormatCount(summary.manifest.samples())}})
              << RenderTaken(taken) << (options.append ? RenderAppended(summary) : "")
              << RenderSkipped(summary.skipped, summary.skipped_by_reason, options.catalog, console.colour);
  return absl::OkStatus();
}

absl::StatusOr<CatalogBuildSummary> Build(const DatasetReader& dataset, const ImportOptions& options,
                                          const Console& console) {
  CatalogBuildOptions build;
  build.strict = options.strict;
  build.force = options.force;
  build.dry_run = options.dry_run;
  build.resume = options.resume;
  build.threads = options.threads;
  build.quiet = console.quiet;
  if (!options.append) return BuildCatalog(dataset, options.catalog, build);
  CatalogAppendOptions append;
  append.build = build;
  append.split = options.split;
  append.decode = ImageDecoder();
  return AppendToCatalog(dataset, options.catalog, append);
}

}  // namespace

absl::Status RunImport(const ImportOptions& options, const Console& console) {
  Taken taken;
  taken.format = options.format;
  if (options.format == "auto") {
    ASSIGN_OR_RETURN(GuessedFormat guessed, GuessFormat(options.path));
    taken.format = std::move(guessed.format);
    taken.guess = std::move(guessed.reason);
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<DatasetReader> dataset,
                   OpenDataset(taken.format, options.path, {options.root, options.follow_links}));
  taken.notes = dataset->notes();
  std::unique_ptr<CatalogLock> lock;
  if (!options.dry_run) {
    ASSIGN_OR_RETURN(lock, CatalogLock::Take(options.catalog));
  }
  ASSIGN_OR_RETURN(taken.summary, Build(*dataset, options, console));
  if (options.dry_run) return PrintDryRun(taken, options, console);
  ASSIGN_OR_RETURN(const std::shared_ptr<const Catalog> catalog, Catalog::Open(options.catalog));
  const CatalogBuildSummary& summary = taken.summary;
  if (console.structured()) {
    return PrintJson(console,
                     SummaryJson(taken, nlohmann::ordered_json::parse(CatalogJson(*catalog)), options));
  }
  console.out << RenderCatalog(*catalog, console.colour) << RenderTaken(taken)
              << RenderSkipped(summary.skipped, summary.skipped_by_reason, options.catalog, console.colour);
  if (options.append) console.out << RenderAppended(summary);
  if (summary.resumed_parts > 0) {
    console.out << "\nWent on where an import was cut off: " << FormatCount(summary.resumed_parts) << " of "
                << FormatCount(dataset->num_parts()) << " parts were read already.\n";
  }
  console.out << (summary.unchanged ? "\nThe catalog holds this data already: nothing was written."
                                    : "\nImported ")
              << (summary.unchanged ? "" : taken.format) << absl::StrFormat(" (%.1f s)\n", summary.seconds);
  return absl::OkStatus();
}

}  // namespace doppel
