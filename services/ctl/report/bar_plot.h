#pragma once

#include <string>
#include <vector>

namespace doppel::report {

struct BarPlot {
  std::string title;
  std::string x_label;
  std::vector<double> values;
  std::vector<std::string> names;  // of the bars, shown when pointed at; empty: none
};

// Inline SVG, as RenderLinePlot. Empty if there is nothing to draw. A dashed line marks the mean.
std::string RenderBarPlot(const BarPlot& plot);

}  // namespace doppel::report
