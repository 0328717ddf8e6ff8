#include "common/index/score_blocks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/unit/common/index/random_vectors.h"

namespace doppel {
namespace {

TEST(ScoreBlocksTest, CoversEveryPairOnceWithTheRightScore) {
  constexpr int kDimension = 3;
  constexpr int64_t kQueries = 700;
  constexpr int64_t kVectors = 5000;
  const std::vector<float> queries = RandomVectors(kQueries, kDimension, 1);
  const std::vector<float> vectors = RandomVectors(kVectors, kDimension, 2);
  std::vector<char> seen(kQueries * kVectors);
  int64_t wrong = 0;
  ForEachScoreBlock(queries, vectors, kDimension, [&](const ScoreBlock& block) {
    for (int64_t i = 0; i < block.queries; ++i) {
      ASSERT_EQ(static_cast<int64_t>(block.row(i).size()), block.vectors);
      for (int64_t j = 0; j < block.vectors; ++j) {
        const int64_t query = block.first_query + i;
        const int64_t vector = block.first_vector + j;
        ++seen[query * kVectors + vector];
        const float expected = Dot(&queries[query * kDimension], &vectors[vector * kDimension], kDimension);
        wrong += std::abs(block.row(i)[j] - expected) > 1e-6F ? 1 : 0;
      }
    }
  });
  EXPECT_EQ(wrong, 0);
  for (const char count : seen) ASSERT_EQ(count, 1);
}

TEST(ScoreBlocksTest, VectorsAscendWithinAQueryBlock) {
  const std::vector<float> queries = RandomVectors(2, 2, 1);
  const std::vector<float> vectors = RandomVectors(20000, 2, 2);
  int64_t next = 0;
  ForEachScoreBlock(queries, vectors, 2, [&](const ScoreBlock& block) {
    EXPECT_EQ(block.first_vector, next);
    next += block.vectors;
  });
  EXPECT_EQ(next, 20000);
}

TEST(ScoreBlocksTest, NothingToVisit) {
  const std::vector<float> some = {1, 2};
  const auto fail = [](const ScoreBlock&) { FAIL(); };
  ForEachScoreBlock({}, some, 2, fail);
  ForEachScoreBlock(some, {}, 2, fail);
}

}  // namespace
}  // namespace doppel
