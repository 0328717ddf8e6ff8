// fsck, backup, restore. Sees CLI11, as command_line.cc does.
#include "services/ctl/state_commands.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/progress.h"
#include "common/base/status_macros.h"
#include "common/io/file_system.h"
#include "miner/storage/state_backup.h"
#include "miner/storage/state_check.h"
#include "services/ctl/table.h"

namespace doppel {
namespace {

using Kind = CheckFinding::Kind;

nlohmann::ordered_json ReportJson(const CheckReport& report) {
  nlohmann::ordered_json json = {{"directory", report.directory},
                                 {"files", report.files},
                                 {"bytes", report.bytes},
                                 {"records", report.records},
                                 {"catalog_fingerprint", report.catalog_fingerprint},
                                 {"damage", report.Count(Kind::kDamage)},
                                 {"unfinished", report.Count(Kind::kUnfinished)},
                                 {"findings", nlohmann::ordered_json::array()}};
  for (const CheckFinding& finding : report.findings) {
    json["findings"].push_back({{"kind", std::string(CheckKindName(finding.kind))},
                                {"file", finding.file},
                                {"what", finding.what},
                                {"remedy", finding.remedy},
                                {"repaired", finding.repaired}});
  }
  return json;
}

nlohmann::ordered_json StateJson(const CheckReport& report) {
  nlohmann::ordered_json json = ReportJson(report);
  json["in_use"] = report.in_use;
  json["generations"] = report.generations;
  json["active"] = report.active;
  json["served"] = report.served;
  return json;
}

std::string Dump(const nlohmann::ordered_json& json) {
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

void PrintFindings(const CheckReport& report, const Console& console) {
  for (const CheckFinding& finding : report.findings) {
    if (finding.kind == Kind::kNote && !console.wide()) continue;
    console.out << CheckKindName(finding.kind) << ": " << finding.file << ": " << finding.what << "\n  "
                << (finding.repaired ? "repaired" : finding.remedy) << "\n";
  }
}

std::string HowMuch(const CheckReport& report) {
  return absl::StrCat(FormatCount(report.files), " files, ", FormatCount(report.bytes), " bytes");
}

void PrintState(const CheckReport& report, const Console& console) {
  const std::string served = report.served == report.active ? ""
                             : report.served == 0
                                 ? "; no generation is intact, recluster"
                                 : absl::StrCat("; generation ", report.served, " is served instead");
  console.out << RenderFields(
      {{"state", absl::StrCat(report.directory, report.in_use ? " (a miner runs on it)" : "")},
       {"read", HowMuch(report)},
       {"generations", absl::StrCat(report.generations, ", active ", report.active, served)},
       {"damage", absl::StrCat(report.Count(Kind::kDamage))},
       {"unfinished", absl::StrCat(report.Count(Kind::kUnfinished))}});
  PrintFindings(report, console);
}

absl::Status Verdict(const std::vector<const CheckReport*>& reports) {
  uint64_t damage = 0, unfinished = 0;
  for (const CheckReport* report : reports) {
    damage += report->Count(Kind::kDamage);
    unfinished += report->Count(Kind::kUnfinished);
  }
  if (damage > 0) return absl::DataLossError(absl::StrCat(damage, " damaged"));
  if (unfinished > 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(unfinished,
                     " unfinished records, as a crash leaves them; a miner that starts cuts them "
                     "off, and so does --repair"));
  }
  return absl::OkStatus();
}

absl::Status PrintSummary(const BackupSummary& summary, const std::string& what, const Console& console) {
  if (console.structured()) {
    return PrintJson(console, Dump({{"directory", summary.check.directory},
                                    {"files", summary.files},
                                    {"bytes", summary.bytes},
                                    {"linked", summary.linked},
                                    {"active", summary.check.active},
                                    {"generations", summary.check.generations}}));
  }
  console.out << what << " " << summary.check.directory << ": " << FormatCount(summary.files) << " files, "
              << FormatCount(summary.bytes) << " bytes, checked; generation " << summary.check.active
              << " is active\n";
  if (summary.linked > 0) {
    console.out << FormatCount(summary.linked)
                << " files share their blocks with the state: --copy if the disk may fail\n";
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RunCheck(const CheckCommandOptions& options, const Console& console) {
  FileSystem& fs = PosixFileSystem();
  CheckReport catalog;
  CheckOptions check;
  check.repair = options.repair;
  std::vector<const CheckReport*> reports;
  if (!options.catalog.empty()) {
    catalog = CheckCatalogFiles(fs, options.catalog);
    check.catalog_fingerprint = catalog.catalog_fingerprint;
    reports.push_back(&catalog);
  }
  CheckReport state;
  if (!options.state.empty()) {
    ASSIGN_OR_RETURN(state, CheckState(fs, options.state, check));
    reports.push_back(&state);
  }
  if (console.structured()) {
    nlohmann::ordered_json json;
    if (!options.state.empty()) json["state"] = StateJson(state);
    if (!options.catalog.empty()) json["catalog"] = ReportJson(catalog);
    RETURN_IF_ERROR(PrintJson(console, Dump(json)));
  } else {
    if (!options.state.empty()) PrintState(state, console);
    if (!options.catalog.empty()) {
      console.out << RenderFields({{"catalog", options.catalog},
                                   {"read", HowMuch(catalog)},
                                   {"damage", absl::StrCat(catalog.Count(Kind::kDamage))}});
      PrintFindings(catalog, console);
    }
  }
  return Verdict(reports);
}

absl::Status RunBackup(const BackupCommandOptions& options, const Console& console) {
  BackupOptions backup;
  backup.link = !options.copy;
  backup.representations = !options.without_representations;
  ASSIGN_OR_RETURN(const BackupSummary summary,
                   BackUpState(PosixFileSystem(), options.state, options.backup, backup));
  return PrintSummary(summary, "backup", console);
}

absl::Status RunRestore(const BackupCommandOptions& options, const Console& console) {
  ASSIGN_OR_RETURN(const BackupSummary summary,
                   RestoreState(PosixFileSystem(), options.backup, options.state));
  return PrintSummary(summary, "state", console);
}

void AddStateCommands(
    const std::function<CLI::App*(const std::string&, const std::string&, const std::string&,
                                  std::function<absl::Status(const Console&)>)>& add) {
  const auto check = std::make_shared<CheckCommandOptions>();
  CLI::App* fsck =
      add("fsck", "Check every file of a miner's state against its checksums",
          "  doppel fsck --state faces.state\n"
          "  doppel fsck --state faces.state --catalog faces.catalog -o json\n"
          "  doppel fsck --state faces.state --repair\n\n"
          "A miner may run meanwhile. Exit status: 0 all is well, 1 something is damaged, 3 only\n"
          "unfinished records, as a crash leaves them.",
          [check](const Console& console) {
            if (check->state.empty() && check->catalog.empty()) {
              return absl::InvalidArgumentError("name --state, --catalog or both");
            }
            return RunCheck(*check, console);
          });
  fsck->add_option("--state", check->state, "The miner's state directory")->option_text("DIR");
  fsck->add_option("--catalog", check->catalog, "The catalog it belongs to, checked as well")
      ->option_text("DIR");
  fsck->add_flag("--repair", check->repair,
                 "Cut unfinished records off and renew the damaged one of two equal logs; nothing else");

  const auto backup = std::make_shared<BackupCommandOptions>();
  CLI::App* back_up = add("backup", "Copy a miner's state as it is at one moment, while it serves",
                          "  doppel backup --state faces.state --to /backups/faces-monday\n"
                          "  doppel backup --state faces.state --to /other-disk/faces --copy",
                          [backup](const Console& console) { return RunBackup(*backup, console); });
  back_up->add_option("--state", backup->state, "The miner's state directory")
      ->required()
      ->option_text("DIR REQUIRED");
  back_up->add_option("--to", backup->backup, "Directory to write; it must not be there or be empty")
      ->required()
      ->option_text("DIR REQUIRED");
  back_up->add_flag("--copy", backup->copy, "Copy files that never change too, instead of linking them");
  back_up->add_flag("--without-representations", backup->without_representations,
                    "Leave out what embedders have computed; a job that runs starts over");

  const auto restore = std::make_shared<BackupCommandOptions>();
  CLI::App* back = add("restore", "Make a miner's state out of a backup",
                       "  doppel restore --from /backups/faces-monday --state faces.state",
                       [restore](const Console& console) { return RunRestore(*restore, console); });
  back->add_option("--from", restore->backup, "The backup")->required()->option_text("DIR REQUIRED");
  back->add_option("--state", restore->state, "Directory to make; it must not be there or be empty")
      ->required()
      ->option_text("DIR REQUIRED");
}

}  // namespace doppel
