#include "trainer/eval/retrieval.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/unit/trainer/eval/eval_test_data.h"

namespace doppel {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

constexpr double kClose = 1e-12;

TEST(QueryFiguresTest, HandComputed) {
  const std::vector<int64_t> ranks = {0, 2, 5};  // places 1, 3 and 6
  EXPECT_DOUBLE_EQ(AveragePrecision(ranks), (1.0 + 2.0 / 3 + 3.0 / 6) / 3);
  EXPECT_DOUBLE_EQ(AveragePrecisionTrapezoid(ranks),
                   ((1.0 + 1.0) / 2 + (2.0 / 3 + 1.0 / 2) / 2 + (3.0 / 6 + 2.0 / 5) / 2) / 3);
  EXPECT_DOUBLE_EQ(InverseNegativePenalty(ranks), 3.0 / 6);
  EXPECT_DOUBLE_EQ(RPrecision(ranks), 2.0 / 3);
  EXPECT_DOUBLE_EQ(AveragePrecisionAtR(ranks), (1.0 + 2.0 / 3) / 3);
}

TEST(QueryFiguresTest, PerfectAndHopelessRankings) {
  const std::vector<int64_t> perfect = {0, 1, 2, 3};
  EXPECT_EQ(AveragePrecision(perfect), 1);
  EXPECT_EQ(AveragePrecisionTrapezoid(perfect), 1);
  EXPECT_EQ(InverseNegativePenalty(perfect), 1);
  EXPECT_EQ(RPrecision(perfect), 1);
  EXPECT_EQ(AveragePrecisionAtR(perfect), 1);
  const std::vector<int64_t> late = {7, 9};
  EXPECT_EQ(RPrecision(late), 0);
  EXPECT_EQ(AveragePrecisionAtR(late), 0);
  EXPECT_DOUBLE_EQ(InverseNegativePenalty(late), 0.2);
}

// The figures of a whole set by the text book: sorted rankings, precision and recall at every place.
struct Reference {
  int64_t queries = 0;
  double recall1 = 0, recall5 = 0, r_precision = 0, map_at_r = 0, map = 0, map_market = 0, minp = 0;

  void Add(const std::vector<bool>& right) {
    int64_t total = 0;
    for (const bool hit : right) total += hit ? 1 : 0;
    if (total == 0) return;
    ++queries;
    int64_t hits = 0;
    double ap = 0, at_r = 0, trapezoid = 0, old_precision = 1, old_recall = 0;
    size_t last = 0;
    for (size_t i = 0; i < right.size(); ++i) {
      hits += right[i] ? 1 : 0;
      const double precision = static_cast<double>(hits) / static_cast<double>(i + 1);
      const double recall = static_cast<double>(hits) / static_cast<double>(total);
      if (right[i]) {
        ap += precision;
        last = i;
        if (static_cast<int64_t>(i) < total) at_r += precision;
      }
      trapezoid += (recall - old_recall) * (precision + old_precision) / 2;
      old_precision = precision;
      old_recall = recall;
      if (i == 0) recall1 += hits > 0 ? 1 : 0;
      if (i == 4) recall5 += hits > 0 ? 1 : 0;
      if (static_cast<int64_t>(i) == total - 1) r_precision += precision;
    }
    map += ap / static_cast<double>(total);
    map_at_r += at_r / static_cast<double>(total);
    map_market += trapezoid;
    minp += static_cast<double>(total) / static_cast<double>(last + 1);
  }
  double Mean(double sum) const { return sum / static_cast<double>(queries); }
};

struct RetrievalCase {
  int64_t rows;
  int labels;
  int steps;  // 0: no ties
};

void CheckRetrieval(const RetrievalCase& c, Similarity similarity, bool self) {
  EvalData gallery = RandomEvalData(c.rows, 6, c.labels, 0, 11, c.steps);
  EvalData queries = RandomEvalData(47, 6, c.labels + 2, 0, 12, c.steps);
  const EvalData& asked = self ? gallery : queries;
  Reference reference;
  for (int64_t q = 0; q < asked.rows(); ++q) {
    std::vector<bool> right;
    for (const int64_t row :
         SortedRows(asked.row(q), gallery, similarity, [&](int64_t i) { return !self || i != q; })) {
      right.push_back(gallery.labels[row] == asked.labels[q]);
    }
    reference.Add(right);
  }
  for (const int threads : {1, 3}) {
    RankingOptions options;
    options.similarity = similarity;
    options.threads = threads;
    const auto report = EvaluateRetrieval(gallery, self ? nullptr : &queries, {1, 5}, options);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->queries, reference.queries);
    EXPECT_EQ(report->unmatched, asked.rows() - reference.queries);
    EXPECT_NEAR(report->recall[0].second, reference.Mean(reference.recall1), kClose);
    EXPECT_NEAR(report->recall[1].second, reference.Mean(reference.recall5), kClose);
    EXPECT_NEAR(report->r_precision, reference.Mean(reference.r_precision), kClose);
    EXPECT_NEAR(report->map_at_r, reference.Mean(reference.map_at_r), kClose);
    EXPECT_NEAR(report->mean_average_precision, reference.Mean(reference.map), kClose);
  }
}

TEST(RetrievalTest, EqualsSortedRankings) {
  // Few and many right answers per query, lone labels, and rows that are equal to each other.
  for (const RetrievalCase& c :
       {RetrievalCase{300, 90, 0}, {300, 3, 0}, {200, 150, 2}, {300, 5, 2}, {9, 2, 1}}) {
    for (const Similarity similarity : {Similarity::kInnerProduct, Similarity::kEuclidean}) {
      CheckRetrieval(c, similarity, true);
      CheckRetrieval(c, similarity, false);
    }
  }
}

TEST(RetrievalTest, LowerIndexWinsTies) {
  EvalData data;
  data.dimension = 1;
  data.vectors = {1, 1, 1, 1};
  data.labels = {7, 8, 7, 9};
  // Of query 0 row 1 comes first, of query 2 row 0.
  const auto report = EvaluateRetrieval(data, nullptr, {1, 2}, {});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->queries, 2);
  EXPECT_EQ(report->unmatched, 2);
  EXPECT_THAT(report->recall, ElementsAre(Pair(1, 0.5), Pair(2, 1.0)));
  EXPECT_EQ(report->mean_average_precision, 0.75);
}

TEST(RetrievalTest, OneQueryAndKBeyondTheGallery) {
  EvalData gallery;
  gallery.dimension = 2;
  gallery.vectors = {1, 0, 0, 1};
  gallery.labels = {1, 2};
  EvalData query;
  query.dimension = 2;
  query.vectors = {1, 0.5F};
  query.labels = {2};
  const auto report = EvaluateRetrieval(gallery, &query, {1, 1000}, {});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(report->recall, ElementsAre(Pair(1, 0.0), Pair(1000, 1.0)));
  EXPECT_EQ(report->r_precision, 0);
}

TEST(RetrievalTest, NothingToFindIsAnError) {
  EvalData data;
  data.dimension = 1;
  data.vectors = {1, 2};
  data.labels = {1, 2};
  EXPECT_EQ(EvaluateRetrieval(data, nullptr, {1}, {}).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(EvaluateRetrieval(data, &data, {0}, {}).status().code(), absl::StatusCode::kInvalidArgument);
}

void CheckMarket(int64_t rows, int labels, int cameras, int steps) {
  EvalData gallery = RandomEvalData(rows, 5, labels, cameras, 21, steps);
  EvalData queries = RandomEvalData(60, 5, labels, cameras, 22, steps);
  for (int64_t& label : gallery.labels) label -= 1;  // -1 is junk, 0 background
  for (int64_t& label : queries.labels) label -= 1;
  Reference reference;
  int64_t junk_queries = 0;
  for (int64_t q = 0; q < queries.rows(); ++q) {
    const auto keep = [&](int64_t i) {
      return gallery.labels[i] != -1 &&
             !(gallery.labels[i] == queries.labels[q] && gallery.cameras[i] == queries.cameras[q]);
    };
    junk_queries += queries.labels[q] == -1 ? 1 : 0;
    std::vector<bool> right;
    for (const int64_t row : SortedRows(queries.row(q), gallery, Similarity::kInnerProduct, keep)) {
      right.push_back(gallery.labels[row] == queries.labels[q]);
    }
    reference.Add(right);
  }
  for (const int threads : {1, 3}) {
    RankingOptions options;
    options.threads = threads;
    const auto report = EvaluateMarket(gallery, queries, {1, 5}, options);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->queries, reference.queries);
    EXPECT_EQ(report->queries + report->unmatched + report->junk_queries, queries.rows());
    EXPECT_EQ(report->junk_queries, junk_queries);
    EXPECT_EQ(report->gallery + report->junk, rows);
    EXPECT_NEAR(report->cmc[0].second, reference.Mean(reference.recall1), kClose);
    EXPECT_NEAR(report->cmc[1].second, reference.Mean(reference.recall5), kClose);
    EXPECT_NEAR(report->ap_std, reference.Mean(reference.map), kClose);
    EXPECT_NEAR(report->ap_market, reference.Mean(reference.map_market), kClose);
    EXPECT_NEAR(report->minp, reference.Mean(reference.minp), kClose);
  }
}

TEST(MarketTest, EqualsSortedRankings) {
  CheckMarket(300, 40, 3, 0);
  CheckMarket(300, 4, 2, 0);
  CheckMarket(200, 30, 3, 2);
  CheckMarket(200, 60, 2, 0);
}

TEST(MarketTest, SameCameraAndJunkAreNotThere) {
  EvalData gallery;
  gallery.dimension = 1;
  gallery.vectors = {1, 1, 1, 1, 1};
  gallery.labels = {5, -1, 0, 5, 5};  // same camera, junk, background, right, right
  gallery.cameras = {1, 2, 2, 2, 3};
  EvalData query;
  query.dimension = 1;
  query.vectors = {1};
  query.labels = {5};
  query.cameras = {1};
  const auto report = EvaluateMarket(gallery, query, {1, 2}, {});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->junk, 1);
  EXPECT_EQ(report->gallery, 4);
  EXPECT_EQ(report->distractors, 1);
  EXPECT_THAT(report->cmc, ElementsAre(Pair(1, 0.0), Pair(2, 1.0)));
  EXPECT_DOUBLE_EQ(report->ap_std, (1.0 / 2 + 2.0 / 3) / 2);
  EXPECT_DOUBLE_EQ(report->ap_market, ((1.0 / 2 + 0) / 2 + (2.0 / 3 + 1.0 / 2) / 2) / 2);
  EXPECT_DOUBLE_EQ(report->minp, 2.0 / 3);
}

TEST(MarketTest, AllJunkOrNoCameraIsAnError) {
  EvalData gallery;
  gallery.dimension = 1;
  gallery.vectors = {1, 1};
  gallery.labels = {-1, -1};
  gallery.cameras = {1, 2};
  EvalData query = gallery;
  query.labels = {5, 6};
  EXPECT_EQ(EvaluateMarket(gallery, query, {1}, {}).status().code(), absl::StatusCode::kFailedPrecondition);
  query.cameras.clear();
  EXPECT_THAT(std::string(EvaluateMarket(gallery, query, {1}, {}).status().message()), HasSubstr("camera"));
}

TEST(StreamRanksTest, AnswersInAllTilesAreCountedOnce) {
  // More rows than a tile holds.
  EvalData gallery = RandomEvalData(3000, 40, 2, 0, 31);
  EvalData query = RandomEvalData(1, 40, 2, 0, 32);
  std::vector<int64_t> ranks;
  StreamRanks(
      query, gallery, {}, 3000,
      [](int64_t, std::vector<int64_t>* relevant, std::vector<int64_t>* absent) {
        for (int64_t i = 0; i < 3000; i += 3) relevant->push_back(i);
        for (int64_t i = 1; i < 3000; i += 300) absent->push_back(i);
      },
      [&](int64_t, absl::Span<const int64_t> found) { ranks.assign(found.begin(), found.end()); });
  std::vector<int64_t> expected;
  int64_t place = 0;
  for (const int64_t row :
       SortedRows(query.row(0), gallery, Similarity::kInnerProduct, [](int64_t i) { return i % 300 != 1; })) {
    if (row % 3 == 0) expected.push_back(place);
    ++place;
  }
  EXPECT_EQ(ranks, expected);
}

TEST(NearestRowsTest, SelfIsLeftOutAndLowerIndexWins) {
  EvalData data;
  data.dimension = 1;
  data.vectors = {1, 1, 1};
  data.labels = {0, 0, 0};
  const std::vector<NearestRow> nearest = NearestRows(data, data, {}, true);
  EXPECT_EQ(nearest[0].row, 1);
  EXPECT_EQ(nearest[1].row, 0);
  EXPECT_EQ(nearest[2].row, 0);
  EXPECT_EQ(NearestRows(data, data, {}, false)[2].row, 0);
}

TEST(NearestRowsTest, EqualsSortedRankings) {
  const EvalData gallery = RandomEvalData(2500, 33, 2, 0, 41, 2);
  const EvalData queries = RandomEvalData(20, 33, 2, 0, 42, 2);
  for (const Similarity similarity : {Similarity::kInnerProduct, Similarity::kEuclidean}) {
    RankingOptions options;
    options.similarity = similarity;
    const std::vector<NearestRow> nearest = NearestRows(queries, gallery, options, false);
    for (int64_t q = 0; q < 20; ++q) {
      EXPECT_EQ(nearest[q].row,
                SortedRows(queries.row(q), gallery, similarity, [](int64_t) { return true; }).front());
    }
  }
}

TEST(EvalDataTest, WhatDoesNotFitIsNamed) {
  EvalData data;
  data.dimension = 2;
  data.vectors = {1, 2, 3, 4};
  data.labels = {1};
  EXPECT_THAT(std::string(CheckEvalData(data, "x.npy").message()),
              HasSubstr("x.npy: 2 embeddings, but 1 labels"));
  data.labels = {1, 2};
  data.cameras = {1};
  EXPECT_THAT(std::string(CheckEvalData(data, "x.npy").message()), HasSubstr("1 cameras"));
  data.cameras.clear();
  EXPECT_TRUE(CheckEvalData(data, "x.npy").ok());
  data.vectors[3] = std::nanf("");
  EXPECT_THAT(std::string(CheckEvalData(data, "x.npy").message()), HasSubstr("row 1, column 1 is nan"));
  data.vectors = {1, 2, 0, 0};
  EXPECT_THAT(std::string(NormalizeRows(&data, "x.npy").message()), HasSubstr("row 1 is all zeros"));
}

}  // namespace
}  // namespace doppel
