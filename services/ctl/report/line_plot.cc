#include "services/ctl/report/line_plot.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "services/ctl/report/html.h"
#include "services/ctl/report/plot_frame.h"

namespace doppel::report {
namespace {

struct Axes {
  double x_low = std::numeric_limits<double>::infinity(), x_high = -x_low;
  double y_low = x_low, y_high = -x_low;
  // From y_low to y_high. Kept: those of the widened range could have a wider step, and reach beyond it.
  std::vector<double> y_ticks;

  bool empty() const { return !(x_low <= x_high && y_low <= y_high); }
  void AddY(double y) {
    if (!std::isfinite(y)) return;
    y_low = std::min(y_low, y);
    y_high = std::max(y_high, y);
  }
  void Add(const Point& p) {
    if (!std::isfinite(p.x) || !std::isfinite(p.y)) return;
    x_low = std::min(x_low, p.x);
    x_high = std::max(x_high, p.x);
    AddY(p.y);
  }
  double X(double x) const { return kLeft + (x - x_low) / (x_high - x_low) * (kWidth - kLeft - kRight); }
  double Y(double y) const {
    return kHeight - kBottom - (y - y_low) / (y_high - y_low) * (kHeight - kTop - kBottom);
  }
};

Axes FitAxes(const LinePlot& plot) {
  Axes axes;
  for (const Series& series : plot.series) {
    for (const Point& point : series.points) axes.Add(point);
    for (const auto& [low, high] : series.band) {
      axes.AddY(low);
      axes.AddY(high);
    }
  }
  if (axes.empty()) return axes;
  if (plot.from_zero) axes.y_low = std::min(0.0, axes.y_low);
  if (axes.x_low == axes.x_high) axes.x_high = axes.x_low + 1;
  if (axes.y_low == axes.y_high) {  // a flat line: some room around it
    const double room = axes.y_low == 0 ? 1 : std::fabs(axes.y_low) * 0.05;
    axes.y_low -= axes.y_low == 0 ? 0 : room;
    axes.y_high += room;
  }
  axes.y_ticks = NiceTicks(axes.y_low, axes.y_high, 5);
  axes.y_low = axes.y_ticks.front();
  axes.y_high = axes.y_ticks.back();
  return axes;
}

std::string At(const Axes& axes, double x, double y) {
  return absl::StrFormat("%.1f,%.1f", axes.X(x), axes.Y(y));
}

bool Finite(const Series& series, size_t i) {
  const bool band_ok =
      series.band.empty() || (std::isfinite(series.band[i].first) && std::isfinite(series.band[i].second));
  return std::isfinite(series.points[i].x) && std::isfinite(series.points[i].y) && band_ok;
}

void DrawGrid(const LinePlot& plot, const Axes& axes, std::string& svg) {
  for (double y : axes.y_ticks) {
    absl::StrAppendFormat(&svg, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>",
                          kLeft, kWidth - kRight, axes.Y(y), axes.Y(y));
    absl::StrAppendFormat(&svg, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%s</text>",
                          kLeft - 7, axes.Y(y) + 4,
                          plot.percent ? absl::StrCat(Number(std::round(y * 1e4) / 100), " %") : Number(y));
  }
  for (double x : NiceTicks(axes.x_low, axes.x_high, 6)) {
    if (x < axes.x_low || x > axes.x_high) continue;
    absl::StrAppendFormat(&svg, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>",
                          axes.X(x), kHeight - kBottom + 18, Number(x));
  }
  absl::StrAppendFormat(&svg, "<text class=\"label\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>",
                        (kLeft + kWidth - kRight) / 2, kHeight - 6, Escape(plot.x_label));
}

void DrawSeries(const Series& series, const Axes& axes, std::string& svg) {
  std::string line, upper, lower;
  for (size_t i = 0; i < series.points.size(); ++i) {
    if (!Finite(series, i)) continue;
    const Point& p = series.points[i];
    absl::StrAppend(&line, line.empty() ? "" : " ", At(axes, p.x, p.y));
    if (series.band.empty()) continue;
    absl::StrAppend(&upper, upper.empty() ? "" : " ", At(axes, p.x, series.band[i].second));
    lower = absl::StrCat(At(axes, p.x, series.band[i].first), " ", lower);
  }
  if (line.empty()) return;
  if (!upper.empty())
    absl::StrAppendFormat(&svg, "<polygon class=\"band f%d\" points=\"%s %s\"/>", series.color, upper, lower);
  absl::StrAppendFormat(&svg, "<polyline class=\"line s%d%s\" points=\"%s\"/>", series.color,
                        series.dashed ? " dashed" : "", line);
  if (!series.dots) return;
  for (size_t i = 0; i < series.points.size(); ++i) {
    if (!Finite(series, i)) continue;
    const Point& p = series.points[i];
    absl::StrAppendFormat(
        &svg, "<circle class=\"f%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.2\"><title>%s, %s: %s</title></circle>",
        series.color, axes.X(p.x), axes.Y(p.y), Escape(series.name), Number(p.x), Number(p.y));
  }
}

std::string Legend(const LinePlot& plot) {
  std::string html;
  for (const Series& series : plot.series) {
    if (series.name.empty() || series.points.empty()) continue;
    absl::StrAppendFormat(
        &html,
        "<span class=\"key\"><svg width=\"22\" height=\"8\" aria-hidden=\"true\"><line class=\"line "
        "s%d%s\" x1=\"1\" x2=\"21\" y1=\"4\" y2=\"4\"/></svg>%s</span>",
        series.color, series.dashed ? " dashed" : "", Escape(series.name));
  }
  return html.empty() ? html : absl::StrCat("<div class=\"legend\">", html, "</div>");
}

}  // namespace

std::vector<double> NiceTicks(double low, double high, int count) {
  if (!(high > low)) high = low + 1;
  const double raw = (high - low) / std::max(1, count);
  const double power = std::pow(10, std::floor(std::log10(raw)));
  const double share = raw / power;
  const double step = power * (share <= 1 ? 1 : share <= 2 ? 2 : share <= 5 ? 5 : 10);
  std::vector<double> ticks;
  const double first = std::floor(low / step + 1e-9), last = std::ceil(high / step - 1e-9);
  for (double i = first; i <= last; ++i) ticks.push_back(i * step);
  return ticks;
}

std::vector<Point> Smoothed(const std::vector<Point>& points, size_t buckets) {
  if (points.size() <= buckets || buckets == 0) return points;
  std::vector<Point> means;
  for (size_t b = 0; b < buckets; ++b) {
    const size_t begin = b * points.size() / buckets, end = (b + 1) * points.size() / buckets;
    Point mean;
    for (size_t i = begin; i < end; ++i) {
      mean.x += points[i].x / static_cast<double>(end - begin);
      mean.y += points[i].y / static_cast<double>(end - begin);
    }
    means.push_back(mean);
  }
  return means;
}

std::string RenderLinePlot(const LinePlot& plot) {
  const Axes axes = FitAxes(plot);
  if (axes.empty()) return "";
  std::string svg =
      absl::StrFormat("<svg class=\"plot\" viewBox=\"0 0 %g %g\" role=\"img\" aria-label=\"%s\">", kWidth,
                      kHeight, Escape(plot.title));
  absl::StrAppendFormat(&svg, "<text class=\"title\" x=\"%g\" y=\"16\">%s</text>", kLeft, Escape(plot.title));
  DrawGrid(plot, axes, svg);
  for (const Series& series : plot.series) DrawSeries(series, axes, svg);
  absl::StrAppend(&svg, "</svg>", Legend(plot));
  return svg;
}

}  // namespace doppel::report
