#pragma once

#include <string>
#include <utility>
#include <vector>

namespace doppel::report {

struct Point {
  double x = 0, y = 0;
};

struct Series {
  std::string name;  // in the legend; empty: none
  int color = 0;     // index into the page's palette
  bool dashed = false;
  bool dots = false;  // a mark at every point
  std::vector<Point> points;
  std::vector<std::pair<double, double>> band;  // low and high at every point; empty: none
};

struct LinePlot {
  std::string title;
  std::string x_label = "step";
  std::string y_label;
  bool percent = false;  // y is a share: ticks in per cent
  bool from_zero = true;
  std::vector<Series> series;
};

// Inline SVG that scales with its place and takes its colours from the page. Points that are no finite
// numbers are left out. Empty if there is nothing to draw.
std::string RenderLinePlot(const LinePlot& plot);

// Round values that cover [low, high], about `count` of them.
std::vector<double> NiceTicks(double low, double high, int count);

// At most `buckets` points: the means over consecutive points.
std::vector<Point> Smoothed(const std::vector<Point>& points, size_t buckets);

}  // namespace doppel::report
