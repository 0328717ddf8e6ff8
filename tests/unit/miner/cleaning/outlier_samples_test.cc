#include "miner/cleaning/outlier_samples.h"

#include <gtest/gtest.h>

#include <vector>

#include "miner/cleaning/calibration.h"
#include "tests/unit/miner/cleaning/clusters.h"

namespace doppel {
namespace {

std::vector<char> Flip(Clusters& clusters, int identities, double share) {
  const Philox draw(11);
  std::vector<char> flipped(clusters.labels.size());
  for (size_t i = 0; i < flipped.size(); ++i) {
    if (draw.Uniform(i) >= share) continue;
    clusters.labels[i] =
        (clusters.labels[i] + 1 + static_cast<int64_t>(draw.Below(identities - 1, i, 1))) % identities;
    flipped[i] = 1;
  }
  return flipped;
}

double Ap(const OutlierReport& report, const EmbeddingSet& set, const std::vector<char>& truth) {
  double hits = 0, sum = 0, all = 0;
  for (const char t : truth) all += t;
  for (size_t i = 0; i < report.findings.size(); ++i) {
    if (truth[set.source[report.findings[i].row]] == 0) continue;
    ++hits;
    sum += hits / static_cast<double>(i + 1);
  }
  return sum / all;
}

TEST(OutlierSamplesTest, FindsFlippedLabels) {
  Clusters clusters = MakeClusters(200, 8, 0.6, 1);
  const std::vector<char> flipped = Flip(clusters, 200, 0.1);
  const EmbeddingSet set = MakeEmbeddingSet(clusters.rows, clusters.labels).value();
  const OutlierReport report = FindOutlierSamples(set, {}).value();
  EXPECT_TRUE(report.calibrated);
  EXPECT_GT(Ap(report, set, flipped), 0.95);
  EXPECT_NEAR(report.share, 0.1, 0.04);

  std::vector<double> probabilities;
  for (const OutlierFinding& finding : report.findings) probabilities.push_back(finding.probability);
  const double threshold = ThresholdForPrecision(probabilities, 0.9);
  double above = 0, hits = 0;
  for (const OutlierFinding& finding : report.findings) {
    if (finding.probability < threshold) continue;
    ++above;
    hits += flipped[set.source[finding.row]];
  }
  EXPECT_GT(hits / above, 0.85);
  EXPECT_GT(above, 80);
}

TEST(OutlierSamplesTest, CleanDataHasFewFindings) {
  const Clusters clusters = MakeClusters(200, 8, 0.6, 2);
  const EmbeddingSet set = MakeEmbeddingSet(clusters.rows, clusters.labels).value();
  const OutlierReport report = FindOutlierSamples(set, {}).value();
  EXPECT_LT(report.share, 0.01);
}

TEST(OutlierSamplesTest, NamesTheIdentityThatItLooksLike) {
  Clusters clusters = MakeClusters(60, 6, 0.2, 3);
  clusters.labels[6 * 10] = 40;
  const EmbeddingSet set = MakeEmbeddingSet(clusters.rows, clusters.labels).value();
  const OutlierFinding worst = FindOutlierSamples(set, {}).value().findings[0];
  EXPECT_EQ(set.source[worst.row], 60u);
  EXPECT_EQ(worst.identity, 40u);
  EXPECT_EQ(worst.nearest_identity, 10u);
  EXPECT_GT(worst.other_similarity, worst.own_similarity);
}

TEST(OutlierSamplesTest, ASmallModeIsNoOutlier) {
  // The identity's centre is far from both of its minor images, but they have each other.
  Clusters clusters = MakeClusters(100, 8, 0.2, 4);
  const Clusters modes = MakeClusters(100, 2, 0.2, 5);
  for (int i = 0; i < 100; ++i) {
    for (int j = 0; j < 2; ++j) {
      std::copy_n(modes.rows.row(i * 2 + j), clusters.rows.dimension, clusters.rows.row(i * 8 + j));
    }
  }
  clusters.labels[8 * 7 + 5] = 70;
  const EmbeddingSet set = MakeEmbeddingSet(clusters.rows, clusters.labels).value();
  const OutlierReport report = FindOutlierSamples(set, {}).value();
  EXPECT_EQ(set.source[report.findings[0].row], 61u);
}

TEST(OutlierSamplesTest, NothingDependsOnThreads) {
  Clusters clusters = MakeClusters(60, 6, 0.6, 6);
  Flip(clusters, 60, 0.1);
  const EmbeddingSet set = MakeEmbeddingSet(clusters.rows, clusters.labels).value();
  OutlierOptions one, four;
  one.threads = 1;
  four.threads = 4;
  const OutlierReport a = FindOutlierSamples(set, one).value(), b = FindOutlierSamples(set, four).value();
  ASSERT_EQ(a.findings.size(), b.findings.size());
  for (size_t i = 0; i < a.findings.size(); ++i) {
    EXPECT_EQ(a.findings[i].row, b.findings[i].row);
    EXPECT_EQ(a.findings[i].score, b.findings[i].score);
    EXPECT_EQ(a.findings[i].probability, b.findings[i].probability);
  }
}

TEST(OutlierSamplesTest, LoneSamplesAreNotJudged) {
  const EmbeddingSet lone = MakeEmbeddingSet({3, 2, {1, 0, 0, 1, 1, 1}}, {0, 1, 2}).value();
  const OutlierReport report = FindOutlierSamples(lone, {}).value();
  EXPECT_TRUE(report.findings.empty());
  EXPECT_FALSE(report.calibrated);
  const EmbeddingSet one = MakeEmbeddingSet({2, 2, {1, 0, 0, 1}}, {0, 0}).value();
  EXPECT_EQ(FindOutlierSamples(one, {}).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace doppel
