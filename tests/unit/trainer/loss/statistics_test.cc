#include "trainer/loss/statistics.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace doppel
