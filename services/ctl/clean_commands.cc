#include "services/ctl/clean_commands.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/progress.h"
#include "common/base/status_macros.h"
#include "common/image/contact_sheet.h"
#include "common/io/atomic_file.h"
#include "common/io/file_system.h"
#include "miner/cleaning/verdict_name.h"
#include "services/ctl/table.h"

namespace doppel {
namespace {

bool IsPairKind(v1::CleaningSubject::Kind kind) {
  return kind == v1::CleaningSubject::KIND_DUPLICATE_IDENTITIES;
}

std::string FindingName(const v1::CleaningSubject& subject) {
  return IsPairKind(subject.kind())
             ? absl::StrCat("pair-", subject.first_identity(), "-", subject.second_identity())
             : absl::StrCat("sample-", subject.sample());
}

template <typename Summaries>
std::string RenderSummaries(const Summaries& summaries) {
  constexpr auto kRight = Table::Align::kRight;
  Table table({{"KIND"},
               {"CANDIDATES", kRight},
               {"KEPT", kRight},
               {"THRESHOLD", kRight},
               {"ABOVE IT", kRight},
               {"EXPECTED PRECISION", kRight},
               {"SHARE", kRight}});
  bool uncalibrated = false;
  for (const v1::FindSummary& summary : summaries) {
    const bool some = std::isfinite(summary.threshold());
    uncalibrated = uncalibrated || !summary.calibrated();
    table.AddRow({IsPairKind(summary.kind()) ? "duplicate identities" : "mislabelled samples",
                  FormatCount(summary.candidates()), FormatCount(summary.findings()),
                  some ? absl::StrFormat("%.4f", summary.threshold()) : "none",
                  FormatCount(summary.above_threshold()),
                  some ? absl::StrFormat("%.3f", summary.expected_precision()) : "",
                  absl::StrFormat("%.4f", summary.share())});
  }
  std::string text = table.Render();
  if (uncalibrated) {
    absl::StrAppend(&text,
                    "too few identities with enough samples to calibrate: nothing is guarded by itself\n");
  }
  return text;
}

absl::StatusOr<SheetCell> CellOf(const Catalog& catalog, uint64_t sample, const std::string& label) {
  SheetCell cell;
  ASSIGN_OR_RETURN(const SampleBytes bytes, catalog.Read(sample));
  ASSIGN_OR_RETURN(cell.image, DecodeImage(bytes.data, 3));
  cell.label = label;
  return cell;
}

// The samples of an identity but one, then blanks up to a full row.
absl::Status AddBlock(const Catalog& catalog, uint64_t identity, uint64_t but,
                      const CleanShowOptions& options, std::vector<SheetCell>* cells) {
  const IdentitySamples samples = catalog.Samples(identity);
  for (uint64_t j = 0; j < samples.count; ++j) {
    const uint64_t s = samples[j];
    if (s == but) continue;
    ASSIGN_OR_RETURN(SheetCell cell, CellOf(catalog, s, std::string(catalog.IdentityName(identity))));
    cells->push_back(std::move(cell));
  }
  while (cells->size() % static_cast<size_t>(options.columns) != 0) cells->emplace_back();
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::Decision::Verdict> ParseVerdict(const std::string& word) {
  for (const auto verdict : {v1::Decision::VERDICT_MERGE, v1::Decision::VERDICT_KEEP,
                             v1::Decision::VERDICT_IGNORE, v1::Decision::VERDICT_DROP}) {
    if (VerdictName(verdict) == word) return verdict;
  }
  return absl::InvalidArgumentError(absl::StrCat("\"", word, "\" is none of merge, keep, ignore, drop"));
}

absl::Status RunCleanFind(const v1::FindRequest& request, CleaningClient& client, const Console& console) {
  ASSIGN_OR_RETURN(const v1::FindResponse response, client.Find(request));
  if (console.structured()) return PrintMessage(console, response);
  console.out << RenderSummaries(response.summaries())
              << "look with `doppel clean list`, publish with `doppel clean apply`\n";
  return absl::OkStatus();
}

absl::Status RunCleanList(const v1::ListFindingsRequest& request, CleaningClient& client,
                          const Console& console) {
  ASSIGN_OR_RETURN(const v1::ListFindingsResponse response, client.ListFindings(request));
  if (console.structured()) return PrintMessage(console, response);
  constexpr auto kRight = Table::Align::kRight;
  Table table({{"ID"},
               {"FIRST"},
               {"SECOND"},
               {"PROBABILITY", kRight},
               {"SIMILARITY", kRight},
               {"ACROSS", kRight},
               {"WITHIN", kRight},
               {"COPIED", kRight},
               {"VERDICT"},
               {"GUARDED"},
               {"SAMPLE"}});
  for (const v1::ListedFinding& row : response.findings()) {
    const v1::Finding& finding = row.finding();
    table.AddRow(
        {row.id(), row.first_name(), row.second_name(), absl::StrFormat("%.4f", finding.probability()),
         absl::StrFormat("%.4f", finding.similarity()), absl::StrFormat("%.4f", finding.other_similarity()),
         absl::StrFormat("%.4f", finding.own_similarity()),
         finding.copied() > 0 ? absl::StrFormat("%.0f %%", 100 * finding.copied()) : "",
         VerdictName(row.decision().verdict()), row.guarded() ? "*" : "", row.sample_key()});
  }
  console.out << table.Render(console.colour) << FormatCount(response.findings_size()) << " of "
              << FormatCount(response.total()) << " findings; as things stand "
              << FormatCount(response.guarded_pairs()) << " pairs are guarded and "
              << FormatCount(response.dropped_samples()) << " samples dropped\n";
  return absl::OkStatus();
}

absl::Status RunCleanDecide(const v1::DecideRequest& request, bool dry_run, CleaningClient& client,
                            const Console& console) {
  if (dry_run) {
    // The miner still says whether there are such identities and samples.
    v1::ListFindingsRequest look;
    *look.mutable_ids() = request.ids();
    return RunCleanList(look, client, console);
  }
  ASSIGN_OR_RETURN(const v1::DecideResponse response, client.Decide(request));
  if (console.structured()) return PrintMessage(console, response);
  for (const v1::Decision& decision : response.decisions()) {
    console.out << "decision " << decision.number() << ": " << VerdictName(decision.verdict()) << " "
                << FindingName(decision.subject()) << "\n";
  }
  return absl::OkStatus();
}

absl::Status RunCleanUndo(uint64_t number, CleaningClient& client, const Console& console) {
  v1::UndoRequest request;
  request.set_number(number);
  ASSIGN_OR_RETURN(const v1::UndoResponse response, client.Undo(request));
  if (console.structured()) return PrintMessage(console, response);
  console.out << "taken back: decision " << response.undone().number() << ", "
              << VerdictName(response.undone().verdict()) << " " << FindingName(response.undone().subject())
              << "\n";
  return absl::OkStatus();
}

absl::Status RunCleanExport(const std::string& path, CleaningClient& client, const Console& console) {
  ASSIGN_OR_RETURN(const v1::ExportResponse response, client.Export({}));
  if (path.empty()) {
    console.out << response.csv();
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(WriteFileAtomically(PosixFileSystem(), path, response.csv()));
  console.out << path << ": "
              << FormatCount(std::count(response.csv().begin(), response.csv().end(), '\n') - 1) << " rows\n";
  return absl::OkStatus();
}

absl::Status RunCleanApply(const v1::ApplyRequest& request, CleaningClient& client, const Console& console) {
  ASSIGN_OR_RETURN(const v1::ApplyResponse response, client.Apply(request));
  if (console.structured()) return PrintMessage(console, response);
  const std::string what = absl::StrCat(FormatCount(response.guarded_pairs()), " pairs guarded, ",
                                        FormatCount(response.dropped_samples()), " samples dropped");
  if (request.dry_run()) {
    console.out << "generation " << response.generation().generation() << " would be published again with "
                << what << "\n";
  } else {
    console.out << "generation " << response.generation().generation() << " is published: " << what
                << (response.generation().active() ? "; streams move to it at their next batch\n" : "\n");
  }
  return absl::OkStatus();
}

absl::Status RunCleanShow(const CleanShowOptions& options, CleaningClient& client, const Console& console) {
  v1::ListFindingsRequest request;
  request.add_ids(options.id);
  ASSIGN_OR_RETURN(const v1::ListFindingsResponse response, client.ListFindings(request));
  if (response.findings().empty()) {
    return absl::NotFoundError(absl::StrCat(options.id, ": the miner does not know it"));
  }
  ASSIGN_OR_RETURN(const std::shared_ptr<const Catalog> catalog, Catalog::Open(options.catalog));
  const v1::Finding& finding = response.findings(0).finding();
  const v1::CleaningSubject& subject = finding.subject();
  const bool pair = IsPairKind(subject.kind());
  const uint64_t first = pair ? subject.first_identity() : finding.identity();
  const uint64_t second = pair ? subject.second_identity() : finding.nearest_identity();
  if (std::max(first, second) >= catalog->num_identities() || subject.sample() >= catalog->num_samples()) {
    return absl::FailedPreconditionError(
        absl::StrCat(options.catalog, ": is not the miner's catalog, it has no ", options.id));
  }
  std::vector<SheetCell> cells;
  const uint64_t none = catalog->num_samples();
  if (!pair) {
    ASSIGN_OR_RETURN(SheetCell cell, CellOf(*catalog, subject.sample(), "the sample"));
    cells.push_back(std::move(cell));
    cells.resize(static_cast<size_t>(options.columns));
  }
  RETURN_IF_ERROR(AddBlock(*catalog, first, pair ? none : subject.sample(), options, &cells));
  if (second != first) RETURN_IF_ERROR(AddBlock(*catalog, second, none, options, &cells));
  SheetOptions sheet;
  sheet.columns = options.columns;
  sheet.cell = options.cell;
  ASSIGN_OR_RETURN(const Image image, MakeContactSheet(cells, sheet));
  ASSIGN_OR_RETURN(const std::string png, EncodePng(image, 6));
  RETURN_IF_ERROR(WriteFileAtomically(PosixFileSystem(), options.png, png));
  console.out << options.png << ": " << response.findings(0).first_name() << " and "
              << response.findings(0).second_name() << ", probability "
              << absl::StrFormat("%.4f", finding.probability()) << "\n";
  return absl::OkStatus();
}

}  // namespace doppel
