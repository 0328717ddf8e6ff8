#include "services/ctl/report/report.h"

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/io/atomic_file.h"
#include "common/io/file_system.h"
#include "services/ctl/report/bench_section.h"
#include "services/ctl/report/html.h"
#include "services/ctl/report/lookalikes.h"
#include "services/ctl/report/mining_section.h"
#include "services/ctl/report/page.h"
#include "services/ctl/report/run_data.h"
#include "services/ctl/report/run_sections.h"
#include "services/ctl/report/verdict.h"

namespace doppel {
namespace {

using namespace report;  // NOLINT: everything below is about it

std::string Head(const ReportInputs& inputs, const std::vector<RunData>& runs) {
  std::string html = absl::StrCat("<h1>", Escape(inputs.title), "</h1>\n");
  absl::StrAppend(&html,
                  "<nav><a href=\"#figures\">Final figures</a><a href=\"#accuracy\">Accuracy</a>"
                  "<a href=\"#training\">Training</a><a href=\"#mining\">Mining</a>");
  if (inputs.generation != nullptr) absl::StrAppend(&html, "<a href=\"#lookalikes\">Look-alikes</a>");
  if (!inputs.bench_files.empty()) absl::StrAppend(&html, "<a href=\"#bench\">Limits</a>");
  if (!inputs.commands.empty()) absl::StrAppend(&html, "<a href=\"#commands\">Commands</a>");
  absl::StrAppend(&html, "</nav>\n<ul class=\"verdict\">");
  for (const std::string& sentence : Verdict(runs))
    absl::StrAppend(&html, "<li>", Escape(sentence), "</li>\n");
  absl::StrAppend(&html, "</ul>\n");
  if (runs.size() > 1) {
    absl::StrAppend(
        &html,
        Paragraph("One run per plan and one seed: another seed moves these figures too, by how much is not "
                  "measured here. \"Chance\" counts the drawing of the queries alone."));
  }
  return html;
}

std::string CommandsSection(const std::vector<std::string>& commands) {
  if (commands.empty()) return "";
  std::string body = "<pre>";
  for (const std::string& command : commands) absl::StrAppend(&body, Escape(command), "\n");
  return Section("commands", "To get these figures again", body + "</pre>\n");
}

}  // namespace

absl::StatusOr<std::string> RenderReport(const ReportInputs& inputs) {
  if ((inputs.catalog == nullptr) != (inputs.generation == nullptr)) {
    return absl::InvalidArgumentError("report: look-alikes need both a catalog and a generation");
  }
  std::vector<RunData> runs;
  for (const RunInput& input : inputs.runs) {
    ASSIGN_OR_RETURN(RunData run, ReadRun(input));
    runs.push_back(std::move(run));
  }
  ASSIGN_OR_RETURN(const auto generations, ReadGenerations(inputs.generation_files));
  ASSIGN_OR_RETURN(const std::string bench, BenchSection(inputs.bench_files));
  std::string lookalikes;
  if (inputs.generation != nullptr) {
    ASSIGN_OR_RETURN(lookalikes,
                     LookalikeSection(*inputs.catalog, *inputs.generation, inputs.lookalike_rows));
  }
  return Page(inputs.title, absl::StrCat(Head(inputs, runs), FinalFiguresSection(runs), AccuracySection(runs),
                                         TrainingSection(runs), MiningSection(generations), lookalikes, bench,
                                         CommandsSection(inputs.commands)));
}

absl::Status WriteReport(const ReportInputs& inputs, const std::string& html_path) {
  ASSIGN_OR_RETURN(const std::string html, RenderReport(inputs));
  return WriteFileAtomically(PosixFileSystem(), html_path, html);
}

}  // namespace doppel
