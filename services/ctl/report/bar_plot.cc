#include "services/ctl/report/bar_plot.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "services/ctl/report/html.h"
#include "services/ctl/report/line_plot.h"
#include "services/ctl/report/plot_frame.h"

namespace doppel::report {
namespace {}  // namespace

std::string RenderBarPlot(const BarPlot& plot) {
  if (plot.values.empty()) return "";
  const double most = std::max(1.0, *std::max_element(plot.values.begin(), plot.values.end()));
  const std::vector<double> ticks = NiceTicks(0, most, 5);
  auto y = [&](double v) { return kHeight - kBottom - v / ticks.back() * (kHeight - kTop - kBottom); };

  std::string svg =
      absl::StrFormat("<svg class=\"plot\" viewBox=\"0 0 %g %g\" role=\"img\" aria-label=\"%s\">", kWidth,
                      kHeight, Escape(plot.title));
  absl::StrAppendFormat(&svg, "<text class=\"title\" x=\"%g\" y=\"16\">%s</text>", kLeft, Escape(plot.title));
  for (double tick : ticks) {
    absl::StrAppendFormat(&svg, "<line class=\"grid\" x1=\"%g\" x2=\"%g\" y1=\"%.1f\" y2=\"%.1f\"/>", kLeft,
                          kWidth - kRight, y(tick), y(tick));
    absl::StrAppendFormat(&svg, "<text class=\"tick\" x=\"%g\" y=\"%.1f\" text-anchor=\"end\">%s</text>",
                          kLeft - 7, y(tick) + 4, Number(tick));
  }
  const double pitch = (kWidth - kLeft - kRight) / static_cast<double>(plot.values.size());
  const double width = pitch > 4 ? pitch - std::min(6.0, pitch * 0.2) : pitch;
  for (size_t i = 0; i < plot.values.size(); ++i) {
    absl::StrAppendFormat(
        &svg,
        "<rect class=\"f0\" x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\"><title>%s%s</title></rect>",
        kLeft + static_cast<double>(i) * pitch, y(plot.values[i]), width,
        kHeight - kBottom - y(plot.values[i]),
        i < plot.names.size() ? Escape(plot.names[i]) + ": " : std::string(), Number(plot.values[i]));
  }
  const double mean =
      std::accumulate(plot.values.begin(), plot.values.end(), 0.0) / static_cast<double>(plot.values.size());
  absl::StrAppendFormat(&svg,
                        "<line class=\"line s1 dashed\" x1=\"%g\" x2=\"%g\" y1=\"%.1f\" "
                        "y2=\"%.1f\"><title>mean: %s</title></line>",
                        kLeft, kWidth - kRight, y(mean), y(mean), Number(mean));
  absl::StrAppendFormat(&svg,
                        "<text class=\"label\" x=\"%.1f\" y=\"%g\" text-anchor=\"middle\">%s</text></svg>",
                        (kLeft + kWidth - kRight) / 2, kHeight - 18, Escape(plot.x_label));
  return svg;
}

}  // namespace doppel::report
