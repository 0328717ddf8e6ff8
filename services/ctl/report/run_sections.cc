#include "services/ctl/report/run_sections.h"

#include <algorithm>
#include <functional>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "services/ctl/report/html.h"
#include "services/ctl/report/line_plot.h"

namespace doppel::report {
namespace {

constexpr size_t kBuckets = 120;

// False accept rates that any run was evaluated at, ascending.
std::set<double> FalseAcceptRates(const std::vector<RunData>& runs) {
  std::set<double> rates;
  for (const RunData& run : runs) {
    for (const EvalLine& eval : run.evals) {
      for (const auto& [far, tar] : eval.tar) rates.insert(far);
    }
  }
  return rates;
}

std::string OptionalPercent(const std::optional<double>& share) { return share ? Percent(*share) : "–"; }

template <typename Map, typename Key>
std::string PercentAt(const Map& map, const Key& key) {
  const auto found = map.find(key);
  return found == map.end() ? "–" : Percent(found->second);
}

std::string EvalPlot(const std::vector<RunData>& runs, const std::string& title,
                     const std::function<std::optional<double>(const EvalLine&)>& value) {
  LinePlot plot;
  plot.title = title;
  plot.percent = true;
  plot.from_zero = false;
  for (size_t i = 0; i < runs.size(); ++i) {
    Series series;
    series.name = runs[i].name;
    series.color = static_cast<int>(i % 6);
    series.dots = true;
    for (const EvalLine& eval : runs[i].evals) {
      if (const auto y = value(eval)) series.points.push_back({eval.step, *y});
    }
    plot.series.push_back(std::move(series));
  }
  return RenderLinePlot(plot);
}

std::string StepPlot(const std::vector<RunData>& runs, const std::string& title, bool percent,
                     std::optional<double> StepLine::*field) {
  LinePlot plot;
  plot.title = title;
  plot.percent = percent;
  for (size_t i = 0; i < runs.size(); ++i) {
    Series series;
    series.name = runs[i].name;
    series.color = static_cast<int>(i % 6);
    for (const StepLine& line : runs[i].steps) {
      if (line.*field) series.points.push_back({line.step, *(line.*field)});
    }
    series.points = Smoothed(series.points, kBuckets);
    plot.series.push_back(std::move(series));
  }
  return RenderLinePlot(plot);
}

Series DistanceSeries(const RunData& run, const std::string& name, int color, bool dashed,
                      std::optional<Percentiles> StepLine::*field) {
  std::vector<Point> p5, p50, p95;
  for (const StepLine& line : run.steps) {
    if (!(line.*field)) continue;
    const Percentiles& p = *(line.*field);
    p5.push_back({line.step, p.p5});
    p50.push_back({line.step, p.p50});
    p95.push_back({line.step, p.p95});
  }
  p5 = Smoothed(p5, kBuckets);
  p95 = Smoothed(p95, kBuckets);
  Series series;
  series.name = name;
  series.color = color;
  series.dashed = dashed;
  series.points = Smoothed(p50, kBuckets);
  for (size_t i = 0; i < p5.size(); ++i) series.band.emplace_back(p5[i].y, p95[i].y);
  return series;
}

std::string DistancePlot(const RunData& run) {
  LinePlot plot;
  plot.title = absl::StrCat("Distances of the chosen pairs: ", run.name);
  plot.series = {DistanceSeries(run, "same identity (d_ap)", 2, false, &StepLine::d_ap),
                 DistanceSeries(run, "other identity (d_an)", 3, true, &StepLine::d_an)};
  return RenderLinePlot(plot);
}

void AddFigure(const std::string& svg, const std::string& caption, std::string& html) {
  if (!svg.empty()) absl::StrAppend(&html, Figure(svg, caption));
}

std::string Grid(const std::string& figures) {
  return absl::StrCat("<div class=\"plots\">", figures, "</div>\n");
}

std::string ProtocolNote(const std::vector<RunData>& runs) {
  for (const RunData& run : runs) {
    if (run.evals.empty()) continue;
    const EvalLine& eval = run.evals.back();
    return absl::StrCat("Protocol: ", eval.protocol.empty() ? "not named by the evaluation" : eval.protocol,
                        eval.queries == 0 ? "" : absl::StrCat("; ", eval.queries, " queries"),
                        eval.gallery == 0 ? "" : absl::StrCat(" against a gallery of ", eval.gallery), ".");
  }
  return "";
}

std::optional<double> LastLoss(const RunData& run) {
  for (auto line = run.steps.rbegin(); line != run.steps.rend(); ++line) {
    if (line->loss) return line->loss;
  }
  return std::nullopt;
}

}  // namespace

std::string FinalFiguresSection(const std::vector<RunData>& runs) {
  if (runs.empty()) return Section("figures", "Final figures", Paragraph("No runs were given."));
  const std::set<double> rates = FalseAcceptRates(runs);
  Table table;
  table.header = {"run", "step", "rank-1", "recall@5", "recall@10"};
  for (double far : rates) table.header.push_back(absl::StrFormat("TAR at FAR %g", far));
  table.header.insert(table.header.end(), {"active share (mean)", "last loss", "images/s (mean)"});
  for (const RunData& run : runs) {
    EvalLine eval;
    if (!run.evals.empty()) eval = run.evals.back();
    const double step = run.evals.empty() ? (run.steps.empty() ? 0 : run.steps.back().step) : eval.step;
    std::vector<std::string> row = {run.name, Number(step), OptionalPercent(eval.rank1),
                                    PercentAt(eval.recall, 5), PercentAt(eval.recall, 10)};
    for (double far : rates) row.push_back(PercentAt(eval.tar, far));
    const auto loss = LastLoss(run);
    const auto rate = MeanOf(run, &StepLine::images_per_second);
    row.insert(row.end(), {OptionalPercent(MeanOf(run, &StepLine::active)), loss ? Number(*loss) : "–",
                           rate ? absl::StrFormat("%.0f", *rate) : "–"});
    table.rows.push_back(std::move(row));
  }
  std::string body = RenderTable(table);
  if (const std::string note = ProtocolNote(runs); !note.empty()) absl::StrAppend(&body, Paragraph(note));
  return Section("figures", "Final figures", body);
}

std::string AccuracySection(const std::vector<RunData>& runs) {
  std::string figures;
  AddFigure(EvalPlot(runs, "Rank-1 over steps", [](const EvalLine& e) { return e.rank1; }),
            "Share of queries whose nearest gallery entry is of the right identity.", figures);
  for (double far : FalseAcceptRates(runs)) {
    AddFigure(EvalPlot(runs, absl::StrFormat("TAR at FAR %g over steps", far),
                       [far](const EvalLine& e) -> std::optional<double> {
                         const auto found = e.tar.find(far);
                         if (found == e.tar.end()) return std::nullopt;
                         return found->second;
                       }),
              absl::StrFormat("Share of genuine pairs accepted when %g of the false ones are.", far),
              figures);
  }
  if (figures.empty())
    return Section("accuracy", "Accuracy", Paragraph("Nothing was evaluated in these runs."));
  return Section("accuracy", "Accuracy", Grid(figures));
}

std::string TrainingSection(const std::vector<RunData>& runs) {
  std::string figures;
  AddFigure(StepPlot(runs, "Active share over steps (smoothed)", true, &StepLine::active),
            "Share of the chosen triplets that still teach. Near zero, most of the work is for nothing.",
            figures);
  AddFigure(
      StepPlot(runs, "Loss over steps (smoothed)", false, &StepLine::loss),
      "A plan that picks harder batches shows a higher loss for the same model: compare accuracy, not this.",
      figures);
  AddFigure(
      StepPlot(runs, "Mean similarity between the identities of a batch", false, &StepLine::mean_similarity),
      "By the representations of the generation in force: how alike the identities are that meet.", figures);
  for (const RunData& run : runs) {
    AddFigure(DistancePlot(run), "Median, and the range from the 5th to the 95th percentile.", figures);
  }
  if (figures.empty()) return Section("training", "Training", Paragraph("These runs hold no steps yet."));
  return Section("training", "Training", Grid(figures));
}

}  // namespace doppel::report
