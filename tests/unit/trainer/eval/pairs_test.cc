#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/unit/trainer/eval/eval_test_data.h"
#include "trainer/eval/all_pairs.h"
#include "trainer/eval/coverage.h"
#include "trainer/eval/distractors.h"
#include "trainer/eval/lfw.h"
#include "trainer/eval/two_step.h"

namespace doppel {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;

TEST(LfwPairsTest, ReadsBothKindsOfLines) {
  const auto pairs =
      ParseLfwPairs("2\t1\nAbel_A\t1\t4\nAbel_A\t2\tBo B\t13\nCy\t1\t2\nCy\t1\tDi\t1\n\n", "p.txt");
  ASSERT_TRUE(pairs.ok()) << pairs.status();
  EXPECT_EQ(pairs->folds, 2);
  EXPECT_THAT(pairs->names, ElementsAre(Pair("Abel_A_0001", "Abel_A_0004"), Pair("Abel_A_0002", "Bo B_0013"),
                                        Pair("Cy_0001", "Cy_0002"), Pair("Cy_0001", "Di_0001")));
  EXPECT_EQ(pairs->same, (std::vector<bool>{true, false, true, false}));
  EXPECT_EQ(ParseLfwPairs("2 1\r\na 1 2\r\na 1 b 2\r\na 1 2\r\na 1 b 2\r\n", "p.txt")->names.size(), 4U);
}

TEST(LfwPairsTest, WhatIsWrongIsNamed) {
  const auto error = [](absl::string_view text) {
    return std::string(ParseLfwPairs(text, "p.txt").status().message());
  };
  EXPECT_THAT(error(""), HasSubstr("p.txt: line 1"));
  EXPECT_THAT(error("10\n"), HasSubstr("\"10 300\""));
  EXPECT_THAT(error("2 1\na 1 2\n"), HasSubstr("1 pairs, but the header promises 2 folds of 1 + 1"));
  EXPECT_THAT(error("2 1\na 1 2\na 1 2\na 1 2\na 1 b 2\n"), HasSubstr("line 3: 3 fields"));
  EXPECT_THAT(error("2 1\na 1 x\na 1 b 2\na 1 2\na 1 b 2\n"), HasSubstr("line 2: \"x\""));
}

TEST(LfwPairsTest, MissingAndDoubledPicturesAreErrors) {
  const auto pairs = ParseLfwPairs("2 1\na 1 2\na 1 b 2\na 1 2\na 1 b 2\n", "p.txt");
  const auto resolved = ResolvePairs(*pairs, {"x/a_0002.png", "a/a_0001.jpg", "b_0002", "other.jpg"});
  ASSERT_TRUE(resolved.ok()) << resolved.status();
  EXPECT_EQ((*resolved)[0].first, 1);
  EXPECT_EQ((*resolved)[0].second, 0);
  EXPECT_TRUE((*resolved)[0].same);
  EXPECT_EQ((*resolved)[1].second, 2);
  const auto missing = ResolvePairs(*pairs, {"a/a_0001.jpg", "a/a_0002.jpg"}).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()), HasSubstr("b_0002"));
  EXPECT_THAT(
      std::string(ResolvePairs(*pairs, {"a_0001", "a_0002", "b_0002", "c/b_0002.jpg"}).status().message()),
      HasSubstr("two pictures are called b_0002"));
}

// facenet's loops, as they stand: every threshold against every pair of the other folds.
LfwReport LfwByLoops(const std::vector<double>& distances, const std::vector<bool>& same, int folds,
                     double target) {
  const int n = static_cast<int>(distances.size());
  LfwReport report;
  std::vector<double> val;
  for (int fold = 0, begin = 0; fold < folds; ++fold) {
    const int end = begin + n / folds + (fold < n % folds ? 1 : 0);
    const auto inside = [&](int i) { return i >= begin && i < end; };
    double best = -1, threshold = 0;
    for (int t = 0; t < 400; ++t) {
      double correct = 0;
      for (int i = 0; i < n; ++i) correct += !inside(i) && (distances[i] < t * 0.01) == same[i] ? 1 : 0;
      if (correct > best) {
        best = correct;
        threshold = t * 0.01;
      }
    }
    double correct = 0;
    for (int i = begin; i < end; ++i) correct += (distances[i] < threshold) == same[i] ? 1 : 0;
    report.fold_accuracy.push_back(correct / (end - begin));
    report.fold_threshold.push_back(threshold);
    std::vector<double> far(4000);
    double negatives = 0;
    for (int i = 0; i < n; ++i) negatives += !inside(i) && !same[i] ? 1 : 0;
    for (int t = 0; t < 4000; ++t) {
      for (int i = 0; i < n; ++i)
        far[t] += !inside(i) && !same[i] && distances[i] < t * 0.001 ? 1 / negatives : 0;
    }
    double at = 0;
    if (far[3999] >= target) {
      int a = 3999;
      while (far[a] > target) --a;
      at = a == 3999 ? 3.999 : a * 0.001 + (target - far[a]) / (far[a + 1] - far[a]) * 0.001;
    }
    double accepted = 0, all = 0;
    for (int i = begin; i < end; ++i) {
      all += same[i] ? 1 : 0;
      accepted += same[i] && distances[i] < at ? 1 : 0;
    }
    val.push_back(accepted / all);
    begin = end;
  }
  for (const double a : report.fold_accuracy) report.accuracy += a / folds;
  for (const double v : val) report.val += v / folds;
  return report;
}

TEST(LfwTest, EqualsTheLoops) {
  for (const int n : {60, 203}) {
    std::vector<double> distances;
    std::vector<bool> same;
    for (int i = 0; i < n; ++i) {
      same.push_back(i % 2 == 0);
      distances.push_back(Philox(7).Uniform(i) * 2.5 + (i % 2 == 0 ? 0 : 1.2));
    }
    for (const double target : {0.013, 0.1, 0.5}) {
      const LfwReport expected = LfwByLoops(distances, same, 10, target);
      const auto report = EvaluateLfw(distances, same, 10, target);
      ASSERT_TRUE(report.ok()) << report.status();
      EXPECT_EQ(report->fold_accuracy, expected.fold_accuracy);
      EXPECT_EQ(report->fold_threshold, expected.fold_threshold);
      EXPECT_NEAR(report->accuracy, expected.accuracy, 1e-12);
      EXPECT_NEAR(report->val, expected.val, 1e-12) << target;
    }
  }
}

TEST(LfwTest, SpreadIsThatOfNumpyAndTheErrorThatOfLfw) {
  // Two folds: the threshold of each comes from the other, which is separated at once.
  const std::vector<double> distances = {0.1, 1.0, 0.1, 3.0};
  const auto report = EvaluateLfw(distances, {true, false, true, false}, 2, 0.5);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(report->fold_threshold, ElementsAre(DoubleNear(0.11, 1e-12), DoubleNear(0.11, 1e-12)));
  EXPECT_EQ(report->accuracy, 1);
  const auto uneven = EvaluateLfw({0.1, 1.0, 1.1, 3.0}, {true, false, true, false}, 2, 0.5);
  EXPECT_THAT(uneven->fold_accuracy, ElementsAre(0.5, 0.5));
  const auto spread =
      EvaluateLfw({0.1, 1.0, 1.1, 3.0, 0.1, 3.0}, {true, false, true, false, true, false}, 3, 0.5);
  double mean = 0;
  for (const double a : spread->fold_accuracy) mean += a / 3;
  double squares = 0;
  for (const double a : spread->fold_accuracy) squares += (a - mean) * (a - mean);
  EXPECT_GT(squares, 0);
  EXPECT_NEAR(spread->deviation, std::sqrt(squares / 3), 1e-12);
  EXPECT_NEAR(spread->standard_error, std::sqrt(squares / 2) / std::sqrt(3.0), 1e-12);
}

TEST(LfwTest, SenselessRequestsAreRefused) {
  const std::vector<double> distances = {1, 2};
  EXPECT_FALSE(EvaluateLfw(distances, {true}, 2, 0.1).ok());
  EXPECT_FALSE(EvaluateLfw(distances, {true, false}, 1, 0.1).ok());
  EXPECT_FALSE(EvaluateLfw(distances, {true, false}, 3, 0.1).ok());
  EXPECT_FALSE(EvaluateLfw(distances, {true, false}, 2, 0).ok());
}

TEST(AllPairsTest, EqualsTarAtFarOverAllScores) {
  for (const int steps : {0, 2}) {
    for (const Similarity similarity : {Similarity::kInnerProduct, Similarity::kEuclidean}) {
      EvalData gallery = RandomEvalData(150, 4, 12, 0, 51, steps);
      EvalData queries = RandomEvalData(40, 4, 14, 0, 52, steps);
      for (const bool self : {true, false}) {
        const EvalData& asked = self ? gallery : queries;
        std::vector<float> genuine;
        std::vector<float> impostors;
        for (int64_t q = 0; q < asked.rows(); ++q) {
          for (int64_t i = self ? q + 1 : 0; i < gallery.rows(); ++i) {
            double dot = 0, square = 0, norm = 0;
            for (int d = 0; d < 4; ++d) {
              const double x = asked.row(q)[d], y = gallery.row(i)[d];
              dot += x * y;
              square += y * y;
              norm += x * x;
            }
            const double score = similarity == Similarity::kEuclidean ? 2 * (dot - square / 2) - norm : dot;
            (asked.labels[q] == gallery.labels[i] ? genuine : impostors).push_back(static_cast<float>(score));
          }
        }
        const std::vector<double> targets = {1e-6, 1e-4, 1e-3, 1e-2, 0.1, 0.5, 1.0};
        const TarAtFarResult expected = TarAtFar(genuine, impostors, targets);
        RankingOptions options;
        options.similarity = similarity;
        for (const int threads : {1, 3}) {
          options.threads = threads;
          const auto report = VerifyAllPairs(gallery, self ? nullptr : &queries, targets, options);
          ASSERT_TRUE(report.ok()) << report.status();
          EXPECT_EQ(report->genuine, genuine.size());
          EXPECT_EQ(report->impostors, impostors.size());
          EXPECT_EQ(report->tar.refused, expected.refused);
          ASSERT_EQ(report->tar.points.size(), expected.points.size());
          for (size_t i = 0; i < expected.points.size(); ++i) {
            EXPECT_EQ(report->tar.points[i].tar, expected.points[i].tar);
            EXPECT_EQ(report->tar.points[i].threshold, expected.points[i].threshold);
          }
        }
      }
    }
  }
}

TEST(AllPairsTest, WithoutGenuinePairsEveryTargetIsRefused) {
  EvalData data;
  data.dimension = 1;
  data.vectors = {1, 2, -3};
  data.labels = {1, 2, 3};
  const auto report = VerifyAllPairs(data, nullptr, {0.5}, {});
  EXPECT_EQ(report->genuine, 0U);
  EXPECT_EQ(report->impostors, 3U);
  EXPECT_THAT(report->tar.refused, ElementsAre(0.5));
}

TEST(CoverageTest, HandComputed) {
  // Right, right, wrong, right, right: precision 1, 1, 2/3, 3/4, 4/5.
  const std::vector<double> confidence = {0.9, 0.8, 0.7, 0.6, 0.5};
  const auto report = Coverage(confidence, {true, true, false, true, true}, {0.95, 0.8, 0.7, 1.0});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->accuracy, 0.8);
  EXPECT_EQ(report->points[0].coverage, 0.4);
  EXPECT_EQ(report->points[0].threshold, 0.8);
  EXPECT_EQ(report->points[0].precision, 1);
  EXPECT_EQ(report->points[1].coverage, 1);  // the largest share, though 3 answers alone would be worse
  EXPECT_EQ(report->points[2].answered, 5);
  EXPECT_EQ(report->points[3].coverage, 0.4);
}

TEST(CoverageTest, EquallyConfidentAnswersAreGivenAllOrNone) {
  const auto report = Coverage({0.9, 0.9, 0.9}, {true, true, false}, {0.95, 0.6});
  EXPECT_EQ(report->points[0].coverage, 0);
  EXPECT_EQ(report->points[0].threshold, std::numeric_limits<double>::infinity());
  EXPECT_EQ(report->points[1].coverage, 1);
}

TEST(CoverageTest, SenselessRequestsAreRefused) {
  EXPECT_FALSE(Coverage({}, {}, {0.95}).ok());
  EXPECT_FALSE(Coverage({0.5}, {true, false}, {0.95}).ok());
  EXPECT_FALSE(Coverage({0.5}, {true}, {0.0}).ok());
  EXPECT_FALSE(Coverage({0.5}, {true}, {1.5}).ok());
  EXPECT_FALSE(Coverage({std::nan("")}, {true}, {0.95}).ok());
}

TEST(CoverageTest, OfEmbeddingsUnmatchedQueriesCountAsWrong) {
  EvalData gallery;
  gallery.dimension = 2;
  gallery.vectors = {1, 0, 0, 1};
  gallery.labels = {1, 2};
  EvalData queries;
  queries.dimension = 2;
  queries.vectors = {1, 0, 0.8F, 0.6F, 0.6F, 0.8F};
  queries.labels = {1, 3, 2};
  const auto report = EvaluateCoverage(gallery, &queries, {1.0, 0.6}, {});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->queries, 3);
  EXPECT_EQ(report->unmatched, 1);
  EXPECT_DOUBLE_EQ(report->accuracy, 2.0 / 3);
  EXPECT_DOUBLE_EQ(report->points[0].coverage, 1.0 / 3);
  EXPECT_DOUBLE_EQ(report->points[1].coverage, 1);
  RankingOptions options;
  options.similarity = Similarity::kEuclidean;
  const auto euclidean = EvaluateCoverage(gallery, &queries, {1.0}, options);
  EXPECT_EQ(euclidean->points[0].threshold, 0);  // minus the distance
  EXPECT_FALSE(EvaluateCoverage(queries, nullptr, {2.0}, {}).ok());
}

void CheckDistractors(bool self, int steps) {
  EvalData gallery = RandomEvalData(400, 6, 300, 0, 61, steps);
  EvalData queries = RandomEvalData(50, 6, 100, 0, 62, steps);
  const EvalData& asked = self ? gallery : queries;
  const LabelGroups groups(gallery.labels);
  const LabelGroups asked_groups(queries.labels);
  std::vector<int64_t> rows;
  for (int64_t i = 0; i < gallery.rows(); ++i) {
    if (self ? groups.Rows(gallery.labels[i]).size() == 1 : asked_groups.Rows(gallery.labels[i]).empty()) {
      rows.push_back(i);
    }
  }
  const auto score = [&](int64_t q, int64_t i) {
    return ExactScore(asked.row(q), gallery.row(i), 6, Similarity::kInnerProduct);
  };
  // All of them: the order drawn does not matter.
  int64_t pairs = 0;
  int64_t identified = 0;
  for (int64_t q = 0; q < asked.rows(); ++q) {
    for (const int64_t mate : groups.Rows(asked.labels[q])) {
      if (self && mate == q) continue;
      ++pairs;
      bool best = true;
      for (const int64_t row : rows) best = best && score(q, mate) > score(q, row);
      identified += best ? 1 : 0;
    }
  }
  const auto all = static_cast<int64_t>(rows.size());
  for (const int threads : {1, 3}) {
    RankingOptions options;
    options.threads = threads;
    const auto report =
        EvaluateDistractors(gallery, self ? nullptr : &queries, {10, all, all + 1}, 3, options);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->available, all);
    EXPECT_EQ(report->pairs, pairs);
    EXPECT_THAT(report->refused, ElementsAre(all + 1));
    ASSERT_EQ(report->rank1.size(), 2U);
    EXPECT_DOUBLE_EQ(report->rank1[1].second, static_cast<double>(identified) / static_cast<double>(pairs));
    EXPECT_GE(report->rank1[0].second, report->rank1[1].second);
  }
}

TEST(DistractorsTest, EqualBruteForce) {
  for (const int steps : {0, 3}) {
    CheckDistractors(true, steps);
    CheckDistractors(false, steps);
  }
}

TEST(DistractorsTest, OneAsCloseAsTheMateCountsAgainstIt) {
  EvalData gallery;
  gallery.dimension = 1;
  gallery.vectors = {1, 1, 1};
  gallery.labels = {1, 1, 2};
  const auto report = EvaluateDistractors(gallery, nullptr, {1}, 0, {});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->probes, 2);
  EXPECT_THAT(report->rank1, ElementsAre(Pair(1, 0.0)));
}

TEST(DistractorsTest, SizesAreGalleriesOfOneDrawnOrder) {
  // The probe 1 loses its mate 0.9 as soon as a distractor above that is drawn, the probe 0.9 never loses 1.
  EvalData gallery;
  gallery.dimension = 1;
  for (int i = 0; i < 1000; ++i) {
    gallery.vectors.push_back(static_cast<float>(i) / 1000);
    gallery.labels.push_back(100 + i);
  }
  gallery.vectors.insert(gallery.vectors.end(), {1, 0.9F});
  gallery.labels.insert(gallery.labels.end(), {1, 1});
  const auto one = EvaluateDistractors(gallery, nullptr, {1, 2, 5, 1000}, 1, {});
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_THAT(one->rank1[3], Pair(1000, 0.5));
  double before = 1;
  for (const auto& [n, share] : one->rank1) {
    EXPECT_LE(share, before) << n;
    before = share;
  }
  // 20 draws: one distractor in ten is above 0.9.
  int lost = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    lost += EvaluateDistractors(gallery, nullptr, {10}, seed, {})->rank1[0].second < 1 ? 1 : 0;
  }
  EXPECT_GT(lost, 5);
  EXPECT_LT(lost, 20);
  EXPECT_EQ(EvaluateDistractors(gallery, nullptr, {5, 1, 1, 2, 1000}, 1, {})->rank1, one->rank1);
}

TEST(DistractorsTest, SenselessRequestsAreRefused) {
  EvalData gallery;
  gallery.dimension = 1;
  gallery.vectors = {1, 1};
  gallery.labels = {1, 1};
  EXPECT_EQ(EvaluateDistractors(gallery, nullptr, {1}, 0, {}).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(EvaluateDistractors(gallery, nullptr, {0}, 0, {}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

IndexFactory Exact() {
  return [](absl::Span<const float> vectors, int dimension) { return MakeExactIndex(vectors, dimension, 1); };
}

TEST(TwoStepTest, ImagesComeFromTheNearestIdentitiesAlone) {
  EvalData data;
  data.dimension = 2;
  // Identity 4 lies around (1, 0) on the whole, though one image of identity 9 is the closest of all.
  data.vectors = {1, 0, 0, 1, 0.96F, 0.28F, 0.8F, 0.6F};
  data.labels = {9, 9, 4, 4};
  const std::vector<float> query = {1, 0};
  const auto one = SearchTwoSteps(data, query, 1, 3, 1, Exact());
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_THAT(one->identities.ids, ElementsAre(4));
  EXPECT_THAT(one->rows.ids, ElementsAre(2, 3, -1));
  const auto two = SearchTwoSteps(data, query, 2, 3, 1, Exact());
  EXPECT_THAT(two->identities.ids, ElementsAre(4, 9));
  EXPECT_THAT(two->rows.ids, ElementsAre(0, 2, 3));
}

TEST(TwoStepTest, AllIdentitiesGiveTheOneStepResult) {
  EvalData data = RandomEvalData(300, 8, 40, 0, 71);
  EvalData queries = RandomEvalData(30, 8, 40, 0, 72);
  ASSERT_TRUE(NormalizeRows(&data, "").ok());
  ASSERT_TRUE(NormalizeRows(&queries, "").ok());
  const auto exact = MakeExactIndex(data.vectors, 8, 1);
  const auto expected = (*exact)->Search(queries.vectors, 7);
  for (const int threads : {1, 3}) {
    const auto found = SearchTwoSteps(data, queries.vectors, 50, 7, threads, Exact());
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found->rows.ids, expected->ids);
    EXPECT_EQ(found->rows.scores, expected->scores);
  }
}

TEST(TwoStepTest, OppositeImagesFallBackToTheFirst) {
  EvalData data;
  data.dimension = 2;
  data.vectors = {1, 0, -1, 0};
  data.labels = {-5, -5};
  EXPECT_THAT(MeanPerIdentity(data).means, ElementsAre(1, 0));
  const std::vector<float> query = {0, 1};
  EXPECT_THAT(SearchTwoSteps(data, query, 1, 2, 1, Exact())->rows.ids, ElementsAre(0, 1));
  EXPECT_FALSE(SearchTwoSteps(data, query, 0, 2, 1, Exact()).ok());
}

}  // namespace
}  // namespace doppel
