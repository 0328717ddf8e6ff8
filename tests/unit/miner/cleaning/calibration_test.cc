#include "miner/cleaning/calibration.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/unit/miner/cleaning/clusters.h"

namespace doppel {
namespace {

// Ordinary rows around 0, positives around `shift`, in one dimension of two.
struct Mixture {
  Evidence positives{2, {}}, rows{2, {}};
  std::vector<bool> truth;
};

Mixture MakeMixture(int ordinary, int hidden, int known, double shift) {
  Mixture mixture;
  const Philox draw(7);
  uint64_t at = 0;
  const auto add = [&](Evidence& to, double mean) {
    to.values.push_back(mean + Normal(draw, at++));
    to.values.push_back(Normal(draw, at++));
  };
  for (int i = 0; i < ordinary + hidden; ++i) {
    add(mixture.rows, i < ordinary ? 0 : shift);
    mixture.truth.push_back(i >= ordinary);
  }
  for (int i = 0; i < known; ++i) add(mixture.positives, shift);
  return mixture;
}

TEST(CalibrationTest, FindsTheShareOfPositives) {
  const Mixture mixture = MakeMixture(9000, 1000, 2000, 5);
  const CalibratedScores scores = CalibrateAgainstPositives(mixture.positives, mixture.rows).value();
  EXPECT_NEAR(scores.share, 0.1, 0.02);
}

TEST(CalibrationTest, ProbabilitiesMeanWhatTheySay) {
  const Mixture mixture = MakeMixture(18000, 2000, 4000, 3);
  const CalibratedScores scores = CalibrateAgainstPositives(mixture.positives, mixture.rows).value();
  for (const double precision : {0.5, 0.8, 0.95}) {
    const double threshold = ThresholdForPrecision(scores.probability, precision);
    double above = 0, hits = 0;
    for (size_t i = 0; i < scores.probability.size(); ++i) {
      if (scores.probability[i] < threshold) continue;
      ++above;
      hits += mixture.truth[i] ? 1 : 0;
    }
    ASSERT_GT(above, 100);
    EXPECT_NEAR(hits / above, ExpectedPrecision(scores.probability, threshold), 0.1);
    EXPECT_GE(hits / above, precision - 0.1);
  }
}

TEST(CalibrationTest, WithoutPositivesAmongTheRowsLittleIsAboveTheThreshold) {
  const Mixture mixture = MakeMixture(10000, 0, 2000, 5);
  const CalibratedScores scores = CalibrateAgainstPositives(mixture.positives, mixture.rows).value();
  EXPECT_LT(scores.share, 0.01);
  const double threshold = ThresholdForPrecision(scores.probability, 0.9);
  EXPECT_LT(std::count_if(scores.probability.begin(), scores.probability.end(),
                          [&](double p) { return p >= threshold; }),
            20);
}

TEST(CalibrationTest, ProbabilityRisesWithTheScore) {
  const Mixture mixture = MakeMixture(2000, 200, 300, 2);
  const CalibratedScores scores = CalibrateAgainstPositives(mixture.positives, mixture.rows).value();
  std::vector<std::pair<double, double>> pairs;
  for (size_t i = 0; i < scores.score.size(); ++i) pairs.emplace_back(scores.score[i], scores.probability[i]);
  std::sort(pairs.begin(), pairs.end());
  for (size_t i = 1; i < pairs.size(); ++i) EXPECT_GE(pairs[i].second, pairs[i - 1].second);
}

TEST(CalibrationTest, SurvivesEvidenceThatSaysNothing) {
  Mixture mixture = MakeMixture(500, 0, 100, 0);
  for (size_t i = 1; i < mixture.rows.values.size(); i += 2) mixture.rows.values[i] = 4;
  for (size_t i = 1; i < mixture.positives.values.size(); i += 2) mixture.positives.values[i] = 4;
  const CalibratedScores scores = CalibrateAgainstPositives(mixture.positives, mixture.rows).value();
  for (const double score : scores.score) EXPECT_TRUE(std::isfinite(score));
}

TEST(CalibrationTest, SaysSoIfThereIsTooLittle) {
  const Mixture mixture = MakeMixture(100, 0, 5, 1);
  EXPECT_EQ(CalibrateAgainstPositives(mixture.positives, mixture.rows).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(CalibrateAgainstPositives(mixture.positives, {2, {}}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CalibrateAgainstPositives(mixture.positives, {1, {1, 2}}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(TailTest, FindsWhatTheTailDoesNotPredict) {
  const Philox draw(3);
  std::vector<double> values;
  values.reserve(10100);
  for (int i = 0; i < 10000; ++i) values.push_back(-std::log(1 - draw.Uniform(i)));
  for (int i = 0; i < 100; ++i) values.push_back(20 + 0.01 * i);
  const std::vector<double> probability = ProbabilityBeyondTail(values);
  for (int i = 10000; i < 10100; ++i) EXPECT_GT(probability[i], 0.9) << values[i];
  double ordinary = 0;
  for (int i = 0; i < 10000; ++i) ordinary += probability[i];
  EXPECT_LT(ordinary, 300);
}

TEST(TailTest, FewOrEqualValuesAreOrdinary) {
  for (const double p : ProbabilityBeyondTail(std::vector<double>(100, 1.5))) EXPECT_EQ(p, 0);
  for (const double p : ProbabilityBeyondTail({1, 2, 300})) EXPECT_EQ(p, 0);
  EXPECT_TRUE(ProbabilityBeyondTail({}).empty());
}

TEST(ThresholdTest, TakesTheLargestSetThatKeepsThePromise) {
  const std::vector<double> p = {0.5, 1.0, 0.8, 0.8, 0.0};
  EXPECT_EQ(ThresholdForPrecision(p, 0.95), 1.0);
  EXPECT_EQ(ThresholdForPrecision(p, 0.86), 0.8);
  EXPECT_EQ(ThresholdForPrecision(p, 0.7), 0.5);
  EXPECT_DOUBLE_EQ(ExpectedPrecision(p, 0.8), 2.6 / 3);
  EXPECT_EQ(ThresholdForPrecision({0, 0}, 0.5), std::numeric_limits<double>::infinity());
  EXPECT_EQ(ExpectedPrecision(p, 2), 0);
}

}  // namespace
}  // namespace doppel
