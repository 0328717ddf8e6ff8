#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <thread>
#include <utility>
#include <vector>

#include "common/index/vector_index.h"
#include "tests/unit/common/index/random_vectors.h"

namespace doppel {
namespace {

using testing::ElementsAre;

std::vector<int64_t> BruteForce(const std::vector<float>& vectors, const std::vector<float>& queries,
                                int dimension, int k) {
  std::vector<int64_t> ids;
  for (size_t q = 0; q < queries.size() / dimension; ++q) {
    std::vector<std::pair<float, int64_t>> row;
    for (size_t v = 0; v < vectors.size() / dimension; ++v) {
      row.emplace_back(-Dot(&queries[q * dimension], &vectors[v * dimension], dimension), v);
    }
    std::partial_sort(row.begin(), row.begin() + k, row.end());
    for (int i = 0; i < k; ++i) ids.push_back(row[i].second);
  }
  return ids;
}

std::unique_ptr<VectorIndex> Index(const std::vector<float>& vectors, int dimension, int threads = 2) {
  return std::move(MakeExactIndex(vectors, dimension, threads)).value();
}

TEST(ExactIndexTest, EqualsBruteForce) {
  const std::vector<float> vectors = RandomVectors(5000, 16, 1);
  const std::vector<float> queries = RandomVectors(600, 16, 2);
  const auto result = Index(vectors, 16)->Search(queries, 7);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->queries, 600);
  EXPECT_EQ(result->k, 7);
  EXPECT_EQ(result->ids, BruteForce(vectors, queries, 16, 7));
}

TEST(ExactIndexTest, ScoresBelongToTheIdsAndDescend) {
  const std::vector<float> vectors = RandomVectors(300, 5, 1);
  const auto result = Index(vectors, 5)->Search(vectors, 4);
  ASSERT_TRUE(result.ok());
  for (int64_t q = 0; q < 300; ++q) {
    EXPECT_EQ(result->ids[q * 4], q);
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(result->scores[q * 4 + i], Dot(&vectors[q * 5], &vectors[result->ids[q * 4 + i] * 5], 5));
      if (i > 0) {
        EXPECT_LE(result->scores[q * 4 + i], result->scores[q * 4 + i - 1]);
      }
    }
  }
}

TEST(ExactIndexTest, LowerIdWinsTiesAcrossBlocks) {
  constexpr int kDimension = 24;
  std::vector<float> vectors = RandomVectors(9000, kDimension, 3);
  const std::vector<float> query = RandomVectors(1, kDimension, 4);
  // The same vector in three blocks, and at odd places of them.
  for (const int64_t id : {8999, 17, 4100, 4097}) {
    std::copy(query.begin(), query.end(), vectors.begin() + id * kDimension);
  }
  const auto result = Index(vectors, kDimension)->Search(query, 4);
  ASSERT_TRUE(result.ok());
  EXPECT_THAT(result->ids, ElementsAre(17, 4097, 4100, 8999));
  EXPECT_EQ(result->scores[0], result->scores[3]);
}

TEST(ExactIndexTest, AllEqualGivesTheFirst) {
  const std::vector<float> vectors(5000 * 2, 0.5F);
  const std::vector<float> query = {1, 1};
  EXPECT_THAT(Index(vectors, 2)->Search(query, 3)->ids, ElementsAre(0, 1, 2));
}

TEST(ExactIndexTest, ThreadsDoNotShow) {
  const std::vector<float> vectors = RandomVectors(4500, 8, 1);
  const std::vector<float> queries = RandomVectors(530, 8, 2);
  const auto one = Index(vectors, 8, 1)->Search(queries, 5);
  for (const int threads : {0, 2, 5}) {
    const auto other = Index(vectors, 8, threads)->Search(queries, 5);
    EXPECT_EQ(other->ids, one->ids);
    EXPECT_EQ(other->scores, one->scores);
  }
}

TEST(ExactIndexTest, AQueryAloneGetsWhatItGetsAmongOthers) {
  const std::vector<float> vectors = RandomVectors(5000, 8, 1);
  const std::vector<float> queries = RandomVectors(600, 8, 2);
  const auto index = Index(vectors, 8);
  const auto all = index->Search(queries, 3);
  for (const size_t q : {0, 3, 511, 512, 599}) {
    const auto alone = index->Search(absl::MakeConstSpan(&queries[q * 8], 8), 3);
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(alone->ids[i], all->ids[q * 3 + i]);
      EXPECT_EQ(alone->scores[i], all->scores[q * 3 + i]);
    }
  }
}

TEST(ExactIndexTest, FewerVectorsThanKFillUp) {
  const std::vector<float> vectors = {1, 0, 0, 1};
  const std::vector<float> query = {1, 0.5F};
  const auto result = Index(vectors, 2)->Search(query, 4);
  EXPECT_THAT(result->ids, ElementsAre(0, 1, -1, -1));
  EXPECT_EQ(result->scores[3], -std::numeric_limits<float>::infinity());
}

TEST(ExactIndexTest, EmptyIndexAndEmptyQueries) {
  const std::vector<float> query = {1, 2};
  EXPECT_THAT(Index({}, 2)->Search(query, 2)->ids, ElementsAre(-1, -1));
  EXPECT_TRUE(Index(query, 2)->Search({}, 2)->ids.empty());
  EXPECT_EQ(Index({}, 2)->size(), 0);
}

TEST(ExactIndexTest, NotANumberIsNeverFound) {
  const std::vector<float> vectors = {std::nanf(""), 0, 0, 1, 1, 0};
  const std::vector<float> query = {1, 1};
  EXPECT_THAT(Index(vectors, 2)->Search(query, 3)->ids, ElementsAre(1, 2, -1));
}

TEST(ExactIndexTest, SizesThatDoNotFitAreRefused) {
  const std::vector<float> five(5);
  EXPECT_EQ(MakeExactIndex(five, 2, 1).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MakeExactIndex(five, 0, 1).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Index({1, 2}, 2)->Search(five, 1).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Index({1, 2}, 2)->Search({}, 0).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ExactIndexTest, SearchesAtTheSameTimeAgree) {
  const std::vector<float> vectors = RandomVectors(2000, 8, 1);
  const std::vector<float> queries = RandomVectors(100, 8, 2);
  const auto index = Index(vectors, 8);
  const auto expected = index->Search(queries, 5)->ids;
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] { EXPECT_EQ(index->Search(queries, 5)->ids, expected); });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace doppel
