#include "miner/cleaning/duplicate_identities.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "miner/cleaning/calibration.h"
#include "tests/unit/miner/cleaning/clusters.h"

namespace doppel {
namespace {

using Pairs = std::set<std::pair<uint32_t, uint32_t>>;

// Every tenth identity gives half of its images to a new one.
Pairs SplitEveryTenth(int identities, int images, std::vector<int64_t>& labels) {
  Pairs split;
  int64_t next = identities;
  for (int i = 0; i < identities; i += 10) {
    for (int j = 0; j < images; j += 2) labels[i * images + j] = next;
    split.insert({static_cast<uint32_t>(i), static_cast<uint32_t>(next++)});
  }
  return split;
}

double Ap(const DuplicateReport& report, const Pairs& truth) {
  double hits = 0, sum = 0;
  for (size_t i = 0; i < report.findings.size(); ++i) {
    if (truth.count({report.findings[i].first, report.findings[i].second}) == 0) continue;
    ++hits;
    sum += hits / static_cast<double>(i + 1);
  }
  return sum / static_cast<double>(truth.size());
}

TEST(DuplicateIdentitiesTest, FindsIdentitiesThatWereSplit) {
  Clusters clusters = MakeClusters(300, 8, 0.5, 1);
  const Pairs split = SplitEveryTenth(300, 8, clusters.labels);
  const EmbeddingSet set = MakeEmbeddingSet(clusters.rows, clusters.labels).value();
  const DuplicateReport report = FindDuplicateIdentities(set, {}).value();
  EXPECT_TRUE(report.calibrated);
  EXPECT_GT(Ap(report, split), 0.95);

  std::vector<double> probabilities;
  for (const DuplicateFinding& finding : report.findings) probabilities.push_back(finding.probability);
  const double threshold = ThresholdForPrecision(probabilities, 0.8);
  double above = 0, hits = 0;
  for (const DuplicateFinding& finding : report.findings) {
    if (finding.probability < threshold) continue;
    ++above;
    hits += static_cast<double>(split.count({finding.first, finding.second}));
  }
  EXPECT_GT(hits / above, 0.7);
  EXPECT_GT(hits / static_cast<double>(split.size()), 0.7);
}

TEST(DuplicateIdentitiesTest, EqualImagesAreEvidenceWhereCentresAreNot) {
  // Wide identities: two that share three of six images among many that do not.
  Clusters clusters = MakeClusters(200, 6, 1.0, 2);
  Pairs truth;
  for (uint32_t i = 0; i < 20; i += 2) {
    for (int j = 0; j < 3; ++j) {
      std::copy_n(clusters.rows.row(i * 6 + j), clusters.rows.dimension, clusters.rows.row((i + 1) * 6 + j));
    }
    truth.insert({i, i + 1});
  }
  const EmbeddingSet set = MakeEmbeddingSet(clusters.rows, clusters.labels).value();
  const DuplicateReport report = FindDuplicateIdentities(set, {}).value();
  EXPECT_GE(Ap(report, truth), 0.9);
  EXPECT_FLOAT_EQ(report.findings[0].copied, 0.5);
  EXPECT_GT(report.findings[0].probability, 0.5);
}

TEST(DuplicateIdentitiesTest, ImagesThatManyShareAreNoEvidence) {
  Clusters clusters = MakeClusters(100, 6, 0.3, 3);
  for (int i = 1; i < 100; ++i)
    std::copy_n(clusters.rows.row(0), clusters.rows.dimension, clusters.rows.row(i * 6));
  const EmbeddingSet set = MakeEmbeddingSet(clusters.rows, clusters.labels).value();
  const DuplicateReport report = FindDuplicateIdentities(set, {}).value();
  for (const DuplicateFinding& finding : report.findings) EXPECT_EQ(finding.copied, 0);
}

TEST(DuplicateIdentitiesTest, NothingDependsOnThreadsOrTheOrderOfRows) {
  Clusters clusters = MakeClusters(120, 6, 0.6, 4);
  SplitEveryTenth(120, 6, clusters.labels);
  const EmbeddingSet set = MakeEmbeddingSet(clusters.rows, clusters.labels).value();
  DuplicateOptions one, four;
  one.threads = 1;
  four.threads = 4;
  const DuplicateReport a = FindDuplicateIdentities(set, one).value(),
                        b = FindDuplicateIdentities(set, four).value();
  ASSERT_EQ(a.findings.size(), b.findings.size());
  for (size_t i = 0; i < a.findings.size(); ++i) {
    EXPECT_EQ(a.findings[i].first, b.findings[i].first);
    EXPECT_EQ(a.findings[i].second, b.findings[i].second);
    EXPECT_EQ(a.findings[i].score, b.findings[i].score);
    EXPECT_EQ(a.findings[i].probability, b.findings[i].probability);
  }
}

TEST(DuplicateIdentitiesTest, EveryPairOnceAndInOrder) {
  const Clusters clusters = MakeClusters(80, 5, 0.5, 5);
  const EmbeddingSet set = MakeEmbeddingSet(clusters.rows, clusters.labels).value();
  const DuplicateReport report = FindDuplicateIdentities(set, {}).value();
  Pairs seen;
  for (const DuplicateFinding& finding : report.findings) {
    EXPECT_LT(finding.first, finding.second);
    EXPECT_TRUE(seen.insert({finding.first, finding.second}).second);
  }
  EXPECT_TRUE(std::is_sorted(report.findings.begin(), report.findings.end(),
                             [](const auto& a, const auto& b) { return a.score > b.score; }));
}

TEST(DuplicateIdentitiesTest, TooFewToLearnFromAreNotCalibrated) {
  const Clusters clusters = MakeClusters(6, 1, 0.5, 6);
  const EmbeddingSet set = MakeEmbeddingSet(clusters.rows, clusters.labels).value();
  const DuplicateReport report = FindDuplicateIdentities(set, {}).value();
  EXPECT_FALSE(report.calibrated);
  for (const DuplicateFinding& finding : report.findings) EXPECT_EQ(finding.probability, 0);
}

TEST(DuplicateIdentitiesTest, EmptyAndLoneIdentities) {
  const EmbeddingSet lone = MakeEmbeddingSet({1, 2, {1, 0}}, {3}).value();
  EXPECT_TRUE(FindDuplicateIdentities(lone, {}).value().findings.empty());
  const EmbeddingSet gap = MakeEmbeddingSet({2, 2, {1, 0, 0, 1}}, {1, 5}).value();
  const DuplicateReport report = FindDuplicateIdentities(gap, {}).value();
  ASSERT_EQ(report.findings.size(), 1u);
  EXPECT_EQ(report.findings[0].first, 1u);
  EXPECT_EQ(report.findings[0].second, 5u);
  DuplicateOptions none;
  none.neighbours = 0;
  EXPECT_FALSE(FindDuplicateIdentities(gap, none).ok());
}

TEST(DuplicatesByCentresTest, FindsNearCopiesOfCentres) {
  Clusters clusters = MakeClusters(2000, 1, 0, 7);
  Pairs truth;
  const Philox draw(8);
  for (uint32_t i = 0; i < 40; i += 2) {
    for (int d = 0; d < clusters.rows.dimension; ++d) {
      clusters.rows.row(i + 1)[d] = clusters.rows.row(i)[d] + 0.02f * Normal(draw, i * 16 + d);
    }
    truth.insert({i, i + 1});
  }
  NormalizeRows(clusters.rows);
  NeighbourOptions nearest;
  nearest.neighbours = 3;
  const DuplicateReport report =
      FindDuplicatesByCentres(FindIdentityNeighbours(clusters.rows, nearest).value(), 0);
  EXPECT_GT(Ap(report, truth), 0.99);
  for (size_t i = 0; i < truth.size(); ++i) EXPECT_GT(report.findings[i].probability, 0.8);
  EXPECT_LT(report.findings[report.findings.size() / 2].probability, 0.3);
}

}  // namespace
}  // namespace doppel
