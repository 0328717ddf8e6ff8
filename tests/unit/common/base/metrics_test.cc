#include "common/base/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace doppel {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(MetricsTest, CounterCounts) {
  MetricsRegistry registry;
  Counter& counter = registry.GetCounter("doppel_batches_total", "Batches.");
  counter.Add();
  counter.Add(2);
  EXPECT_EQ(counter.Value(), 3);
}

TEST(MetricsTest, GaugeMovesBothWays) {
  MetricsRegistry registry;
  Gauge& gauge = registry.GetGauge("doppel_streams", "Open streams.");
  gauge.Set(5);
  gauge.Add(-2);
  EXPECT_EQ(gauge.Value(), 3);
}

TEST(MetricsTest, SameNameAndLabelsIsTheSameObject) {
  MetricsRegistry registry;
  EXPECT_EQ(&registry.GetCounter("a_total", "A.", {{"plan", "random"}}),
            &registry.GetCounter("a_total", "A.", {{"plan", "random"}}));
  EXPECT_NE(&registry.GetCounter("a_total", "A.", {{"plan", "random"}}),
            &registry.GetCounter("a_total", "A.", {{"plan", "subspace"}}));
}

TEST(MetricsTest, LabelOrderDoesNotMatter) {
  MetricsRegistry registry;
  EXPECT_EQ(&registry.GetGauge("g", "G.", {{"a", "1"}, {"b", "2"}}),
            &registry.GetGauge("g", "G.", {{"b", "2"}, {"a", "1"}}));
}

TEST(MetricsTest, ExposesTextFormat) {
  MetricsRegistry registry;
  registry.GetCounter("doppel_batches_total", "Batches sent.", {{"plan", "subspace"}}).Add(7);
  registry.GetGauge("doppel_streams", "Open streams.").Set(2);
  const std::string text = registry.Expose();
  EXPECT_THAT(text, HasSubstr("# HELP doppel_batches_total Batches sent.\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE doppel_batches_total counter\n"));
  EXPECT_THAT(text, HasSubstr("doppel_batches_total{plan=\"subspace\"} 7"));
  EXPECT_THAT(text, HasSubstr("doppel_streams 2"));
}

TEST(MetricsTest, HistogramHasCumulativeBuckets) {
  MetricsRegistry registry;
  Histogram& histogram = registry.GetHistogram("doppel_build_seconds", "Build time.", {0.1, 1});
  for (const double value : {0.05, 0.5, 5.0}) histogram.Observe(value);
  const std::string text = registry.Expose();
  EXPECT_THAT(text, HasSubstr("doppel_build_seconds_bucket{le=\"0.1\"} 1"));
  EXPECT_THAT(text, HasSubstr("doppel_build_seconds_bucket{le=\"1\"} 2"));
  EXPECT_THAT(text, HasSubstr("doppel_build_seconds_bucket{le=\"+Inf\"} 3"));
  EXPECT_THAT(text, HasSubstr("doppel_build_seconds_count 3"));
}

TEST(MetricsTest, LatencyBoundsAscend) {
  const absl::Span<const double> bounds = LatencyBounds();
  for (size_t i = 1; i < bounds.size(); ++i) EXPECT_LT(bounds[i - 1], bounds[i]);
}

TEST(MetricsTest, IllegalNameCountsUnseen) {
  MetricsRegistry registry;
  Counter& counter = registry.GetCounter("not a name", "X.");
  counter.Add(4);
  EXPECT_EQ(counter.Value(), 4);
  EXPECT_THAT(registry.Expose(), Not(HasSubstr("not a name")));
}

TEST(MetricsTest, NameOfAnotherKindCountsUnseen) {
  MetricsRegistry registry;
  registry.GetCounter("twice", "X.").Add(1);
  registry.GetGauge("twice", "X.").Set(9);
  EXPECT_THAT(registry.Expose(), HasSubstr("twice 1"));
  EXPECT_THAT(registry.Expose(), Not(HasSubstr("twice 9")));
}

TEST(MetricsTest, ThreadsCountTogether) {
  MetricsRegistry registry;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) registry.GetCounter("c_total", "C.", {{"k", "v"}}).Add();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(registry.GetCounter("c_total", "C.", {{"k", "v"}}).Value(), 2000);
}

}  // namespace
}  // namespace doppel
