#include "trainer/loss/statistics.h"

#include <gtest/gtest.h>

#include <limits>

namespace doppel {
namespace {

TEST(PercentilesTest, OfNothingAreZero) {
  const Percentiles p = ComputePercentiles({});
  EXPECT_EQ(p.p0, 0);
  EXPECT_EQ(p.p100, 0);
}

TEST(PercentilesTest, OfOneValueAreThatValue) {
  const Percentiles p = ComputePercentiles({2.5F});
  for (double value : {p.p0, p.p5, p.p50, p.p95, p.p100}) EXPECT_EQ(value, 2.5);
}

TEST(PercentilesTest, InterpolateLinearlyWhateverTheOrder) {
  // numpy.percentile([0, 1, 2, 3], [0, 5, 50, 95, 100])
  const Percentiles p = ComputePercentiles({3, 0, 2, 1});
  EXPECT_DOUBLE_EQ(p.p0, 0);
  EXPECT_NEAR(p.p5, 0.15, 1e-12);
  EXPECT_DOUBLE_EQ(p.p50, 1.5);
  EXPECT_NEAR(p.p95, 2.85, 1e-12);
  EXPECT_DOUBLE_EQ(p.p100, 3);
}

TEST(PercentilesTest, OfManyValuesLieAtTheirRanks) {
  std::vector<float> values;
  for (int i = 0; i < 1001; ++i) values.push_back(static_cast<float>((i * 7919) % 1001));
  const Percentiles p = ComputePercentiles(values);
  EXPECT_DOUBLE_EQ(p.p0, 0);
  EXPECT_DOUBLE_EQ(p.p5, 50);
  EXPECT_DOUBLE_EQ(p.p50, 500);
  EXPECT_DOUBLE_EQ(p.p95, 950);
  EXPECT_DOUBLE_EQ(p.p100, 1000);
}

TEST(PercentilesTest, OfWeightedValuesAreThoseOfTheRepeatedOnes) {
  std::vector<float> first, second, weights, spelt;
  for (int i = 0; i < 20000; ++i) {
    const float value = static_cast<float>((i * 7919) % 20011) / 100;
    first.push_back(value);
    weights.push_back(static_cast<float>(i % 4));
    spelt.insert(spelt.end(), static_cast<size_t>(i % 4), value);
  }
  for (int i = 0; i < 500; ++i) {
    second.push_back(static_cast<float>(i) * 3);
    spelt.insert(spelt.end(), 2, second.back());
  }
  const std::vector<WeightedValues> parts = {{first.data(), 20000, 1, weights.data()},
                                             {second.data(), 500, 2, nullptr}};
  const Percentiles got = ComputeWeightedPercentiles(parts), wanted = ComputePercentiles(spelt);
  EXPECT_EQ(got.p0, wanted.p0);
  EXPECT_NEAR(got.p5, wanted.p5, 1e-9);
  EXPECT_NEAR(got.p50, wanted.p50, 1e-9);
  EXPECT_NEAR(got.p95, wanted.p95, 1e-9);
  EXPECT_EQ(got.p100, wanted.p100);
}

TEST(PercentilesTest, InfinityStandsForNoValue) {
  const float values[] = {3, std::numeric_limits<float>::infinity(), 1, 2};
  const std::vector<WeightedValues> parts = {{values, 4, 1, nullptr}};
  EXPECT_EQ(ComputeWeightedPercentiles(parts).p50, 2);
  EXPECT_EQ(ComputeWeightedPercentiles(parts).p100, 3);
  const std::vector<WeightedValues> none = {{values + 1, 1, 1, nullptr}, {}};
  EXPECT_EQ(ComputeWeightedPercentiles(none).p50, 0);
}

TEST(PercentilesTest, OneOutlierDoesNotDisturb) {
  std::vector<float> values(5000);
  for (int i = 0; i < 5000; ++i) values[i] = static_cast<float>(i % 100);
  values[77] = 1e30F;
  const std::vector<WeightedValues> parts = {{values.data(), 5000, 1, nullptr}};
  EXPECT_EQ(ComputeWeightedPercentiles(parts).p50, ComputePercentiles(values).p50);
  EXPECT_EQ(ComputeWeightedPercentiles(parts).p95, ComputePercentiles(values).p95);
}

}  // namespace
}  // namespace doppel
