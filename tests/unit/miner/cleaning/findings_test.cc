#include "miner/cleaning/findings.h"

#include <vector>

#include "gtest/gtest.h"

namespace doppel {
namespace {

// Probabilities 1, 0.99, … 0: the mean of the first n falls by half of that.
template <typename Report>
Report Falling() {
  Report report;
  report.calibrated = true;
  report.findings.resize(101);
  for (int i = 0; i <= 100; ++i) report.findings[i].probability = 1 - i / 100.0;
  return report;
}

v1::FindSummary SummaryOfPairs(const FindingLimits& limits) {
  v1::FindingsReplaced findings;
  AddDuplicateFindings(Falling<DuplicateReport>(), limits, &findings);
  return findings.summaries(0);
}

v1::FindSummary SummaryOfSamples(const FindingLimits& limits) {
  v1::FindingsReplaced findings;
  AddOutlierFindings(Falling<OutlierReport>(), std::vector<uint64_t>(101), limits, &findings);
  return findings.summaries(0);
}

TEST(Findings, PairsAreGuardedAtALowerPrecisionThanSamplesAreDropped) {
  const v1::FindSummary pairs = SummaryOfPairs({}), samples = SummaryOfSamples({});
  EXPECT_NEAR(pairs.threshold(), 0.6, 0.011);
  EXPECT_NEAR(pairs.expected_precision(), 0.8, 0.006);
  EXPECT_NEAR(samples.threshold(), 0.8, 0.011);
  EXPECT_NEAR(samples.expected_precision(), 0.9, 0.006);
}

TEST(Findings, EachKindHasItsOwnPrecision) {
  FindingLimits limits;
  limits.min_precision_of_pairs = 0.95;
  limits.min_precision_of_samples = 0.7;
  EXPECT_NEAR(SummaryOfPairs(limits).threshold(), 0.9, 0.011);
  EXPECT_NEAR(SummaryOfSamples(limits).threshold(), 0.4, 0.011);
}

TEST(Findings, WhatIsImprobableOrTooManyIsLeftOut) {
  FindingLimits limits;
  limits.min_probability = 0.305;
  EXPECT_EQ(SummaryOfPairs(limits).findings(), 70u);
  limits.most = 10;
  const v1::FindSummary summary = SummaryOfPairs(limits);
  EXPECT_EQ(summary.findings(), 10u);
  EXPECT_EQ(summary.above_threshold(), 10u);
  EXPECT_EQ(summary.candidates(), 101u);
}

}  // namespace
}  // namespace doppel
