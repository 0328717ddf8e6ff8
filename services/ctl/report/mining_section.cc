#include "services/ctl/report/mining_section.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/status_macros.h"
#include "common/io/file_system.h"
#include "services/ctl/report/bar_plot.h"
#include "services/ctl/report/html.h"
#include "services/ctl/report/line_plot.h"

namespace doppel::report {
namespace {

constexpr size_t kPlotted = 3;

Table GenerationTable(const std::vector<v1::GenerationInfo>& generations) {
  Table table;
  table.header = {"generation", "created",   "model step", "identities", "subspaces", "smallest",
                  "largest",    "imbalance", "embed s",    "cluster s",  "publish s"};
  for (const v1::GenerationInfo& g : generations) {
    table.rows.push_back(
        {absl::StrCat(g.generation(), g.active() ? " (active)" : ""), g.created_at(),
         absl::StrCat(g.model_step()), absl::StrCat(g.identities()), absl::StrCat(g.subspaces()),
         absl::StrCat(g.smallest_subspace()), absl::StrCat(g.largest_subspace()),
         absl::StrFormat("%.2f", g.imbalance()), absl::StrFormat("%.1f", g.embed_seconds()),
         absl::StrFormat("%.1f", g.cluster_seconds()), absl::StrFormat("%.1f", g.publish_seconds())});
  }
  return table;
}

std::string SizesPlot(const v1::GenerationInfo& g) {
  std::vector<std::pair<uint64_t, uint32_t>> sizes;
  for (const v1::SubspaceInfo& s : g.subspace()) sizes.emplace_back(s.identities(), s.subspace());
  std::sort(sizes.rbegin(), sizes.rend());
  BarPlot plot;
  plot.title = absl::StrCat("Subspace sizes, generation ", g.generation());
  plot.x_label = absl::StrCat(sizes.size(), " subspaces, largest first");
  for (const auto& [size, subspace] : sizes) {
    plot.values.push_back(static_cast<double>(size));
    plot.names.push_back(absl::StrCat("subspace ", subspace));
  }
  return RenderBarPlot(plot);
}

std::string ObjectivePlot(const v1::GenerationInfo& g) {
  LinePlot plot;
  plot.title = absl::StrCat("k-means objective, generation ", g.generation());
  plot.x_label = "iteration";
  plot.from_zero = false;
  Series series;
  series.dots = g.objective_size() <= 50;
  for (int i = 0; i < g.objective_size(); ++i) series.points.push_back({i + 1.0, g.objective(i)});
  plot.series = {series};
  return RenderLinePlot(plot);
}

}  // namespace

absl::StatusOr<std::vector<v1::GenerationInfo>> ReadGenerations(const std::vector<std::string>& files) {
  std::vector<v1::GenerationInfo> generations;
  for (const std::string& path : files) {
    ASSIGN_OR_RETURN(const std::string text, PosixFileSystem().ReadFile(path));
    google::protobuf::util::JsonParseOptions options;
    options.ignore_unknown_fields = true;
    v1::GenerationInfo info;
    if (const auto status = google::protobuf::util::JsonStringToMessage(text, &info, options); !status.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": not a generation as JSON: ", std::string(status.message())));
    }
    generations.push_back(std::move(info));
  }
  return generations;
}

std::string MiningSection(const std::vector<v1::GenerationInfo>& generations) {
  if (generations.empty()) return Section("mining", "Mining", Paragraph("No generation was given."));
  std::string figures;
  const size_t first = generations.size() > kPlotted ? generations.size() - kPlotted : 0;
  for (size_t i = first; i < generations.size(); ++i) {
    const std::string sizes = SizesPlot(generations[i]), objective = ObjectivePlot(generations[i]);
    if (!sizes.empty())
      absl::StrAppend(&figures, Figure(sizes, "Identities per subspace; dashed: the mean."));
    if (!objective.empty()) {
      absl::StrAppend(
          &figures,
          Figure(objective, "Sum over identities of 1 − cosine to the centroid; lower is tighter."));
    }
  }
  return Section(
      "mining", "Mining",
      absl::StrCat(RenderTable(GenerationTable(generations)), "<div class=\"plots\">", figures, "</div>\n"));
}

}  // namespace doppel::report
