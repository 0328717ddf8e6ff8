#include <cmath>
#include <limits>

#include "gmock/gmock.h"
#include "services/ctl/report/bar_plot.h"
#include "services/ctl/report/line_plot.h"

namespace doppel::report {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

TEST(NiceTicks, AreRoundAndCover) {
  EXPECT_THAT(NiceTicks(0, 100, 5), ElementsAre(0, 20, 40, 60, 80, 100));
  EXPECT_THAT(NiceTicks(0, 3, 3), ElementsAre(0, 1, 2, 3));
  const auto ticks = NiceTicks(0.013, 0.587, 5);
  EXPECT_LE(ticks.front(), 0.013);
  EXPECT_GE(ticks.back(), 0.587);
  EXPECT_LE(ticks.size(), 9u);
}

TEST(NiceTicks, ASingleValueIsNoTrouble) { EXPECT_GE(NiceTicks(5, 5, 5).size(), 2u); }

TEST(Smoothed, MeansOfConsecutivePoints) {
  const auto means = Smoothed({{0, 1}, {1, 3}, {2, 5}, {3, 7}}, 2);
  ASSERT_EQ(means.size(), 2u);
  EXPECT_DOUBLE_EQ(means[0].x, 0.5);
  EXPECT_DOUBLE_EQ(means[0].y, 2);
  EXPECT_DOUBLE_EQ(means[1].y, 6);
}

TEST(Smoothed, FewPointsStayAsTheyAre) { EXPECT_EQ(Smoothed({{0, 1}, {1, 3}}, 5).size(), 2u); }

TEST(LinePlot, NothingToDrawIsEmpty) {
  EXPECT_THAT(RenderLinePlot({}), IsEmpty());
  LinePlot plot;
  plot.series.push_back({"a", 0, false, false, {{0, std::nan("")}}, {}});
  EXPECT_THAT(RenderLinePlot(plot), IsEmpty());
}

TEST(LinePlot, NamesAreEscaped) {
  LinePlot plot;
  plot.title = "<script>";
  plot.series.push_back({"a<b", 1, true, true, {{0, 1}, {10, 2}}, {}});
  const std::string svg = RenderLinePlot(plot);
  EXPECT_THAT(svg, HasSubstr("&lt;script&gt;"));
  EXPECT_THAT(svg, HasSubstr("a&lt;b"));
  EXPECT_THAT(svg, Not(HasSubstr("<script>")));
  EXPECT_THAT(svg, HasSubstr("dashed"));
}

TEST(LinePlot, LeavesOutWhatIsNoNumber) {
  LinePlot plot;
  plot.series.push_back(
      {"a", 0, false, true, {{0, 1}, {1, std::numeric_limits<double>::infinity()}, {2, 3}}, {}});
  const std::string svg = RenderLinePlot(plot);
  EXPECT_THAT(svg, Not(HasSubstr("inf")));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
}

TEST(LinePlot, NoTickLiesOutsideTheFrame) {
  LinePlot plot;
  plot.percent = true;
  plot.from_zero = false;
  plot.series.push_back({"a", 0, false, true, {{0, 0.348}, {500, 0.262}, {1000, 0.5}}, {}});
  const std::string svg = RenderLinePlot(plot);
  EXPECT_THAT(svg, HasSubstr(">25 %<"));
  EXPECT_THAT(svg, HasSubstr(">50 %<"));
  EXPECT_THAT(svg, Not(HasSubstr(">20 %<")));
}

TEST(LinePlot, OnePointIsDrawn) {
  LinePlot plot;
  plot.series.push_back({"a", 0, false, true, {{100, 0.5}}, {}});
  EXPECT_THAT(RenderLinePlot(plot), HasSubstr("<circle"));
}

TEST(LinePlot, BandsAreClosedAreas) {
  LinePlot plot;
  plot.series.push_back({"a", 0, false, false, {{0, 1}, {1, 2}}, {{0.5, 1.5}, {1.5, 2.5}}});
  EXPECT_THAT(RenderLinePlot(plot), HasSubstr("<polygon class=\"band f0\""));
}

TEST(BarPlot, OneBarPerValue) {
  const std::string svg = RenderBarPlot({"sizes", "x", {3, 2, 1}, {"s<0>", "s1", "s2"}});
  size_t bars = 0;
  for (size_t at = svg.find("<rect"); at != std::string::npos; at = svg.find("<rect", at + 1)) ++bars;
  EXPECT_EQ(bars, 3u);
  EXPECT_THAT(svg, HasSubstr("s&lt;0&gt;: 3"));
  EXPECT_THAT(RenderBarPlot({}), IsEmpty());
}

}  // namespace
}  // namespace doppel::report
