#include "common/index/exact_scores.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "common/index/exact_scores_kernel.h"
#include "tests/unit/common/index/random_vectors.h"

namespace doppel {
namespace {

double Reference(const float* q, const float* v, int dimension, Similarity similarity) {
  double dot = 0;
  double norm = 0;
  for (int d = 0; d < dimension; ++d) {
    dot += static_cast<double>(q[d]) * static_cast<double>(v[d]);
    norm += static_cast<double>(v[d]) * static_cast<double>(v[d]);
  }
  return similarity == Similarity::kEuclidean ? dot - norm / 2 : dot;
}

// Every pair of the tiles, whatever their borders: bit for bit.
void CheckAllPairs(int64_t n, int64_t m, int dimension, const ScoreTileOptions& options) {
  const std::vector<float> queries = RandomVectors(n, dimension, 1);
  const std::vector<float> vectors = RandomVectors(m, dimension, 2);
  std::vector<char> seen(static_cast<size_t>(n * m));
  std::atomic<int64_t> wrong{0};
  ForEachScoreTile(queries, vectors, dimension, options, [&](const ScoreTile& tile) {
    for (int64_t i = 0; i < tile.queries; ++i) {
      for (int64_t j = 0; j < tile.vectors; ++j) {
        const int64_t q = tile.first_query + i;
        const int64_t v = tile.first_vector + j;
        ++seen[q * m + v];
        if (tile.row(i)[j] !=
            Reference(&queries[q * dimension], &vectors[v * dimension], dimension, options.similarity)) {
          ++wrong;
        }
      }
    }
  });
  EXPECT_EQ(wrong, 0);
  for (int64_t i = 0; i < n * m; ++i) {
    if (options.upper_triangle && i % m <= i / m) {
      ASSERT_LE(seen[i], 1);
    } else {
      ASSERT_EQ(seen[i], 1) << "pair " << i / m << ", " << i % m;
    }
  }
}

TEST(ExactScoresTest, TilesHoldTheSequentialDoubleSumBitForBit) {
  ScoreTileOptions options;
  options.threads = 2;
  CheckAllPairs(130, 1100, 37, options);
  CheckAllPairs(1, 1, 1, options);
  CheckAllPairs(3, 25, 2, options);
  options.max_queries = 5;
  CheckAllPairs(23, 49, 128, options);
}

TEST(ExactScoresTest, EuclideanTilesToo) {
  ScoreTileOptions options;
  options.similarity = Similarity::kEuclidean;
  CheckAllPairs(17, 260, 9, options);
}

TEST(ExactScoresTest, UpperTriangleHasEveryUnorderedPair) {
  ScoreTileOptions options;
  options.upper_triangle = true;
  options.max_queries = 16;
  CheckAllPairs(700, 700, 64, options);
}

TEST(ExactScoresTest, SinglePairsAndGatheredRowsAgreeWithTiles) {
  const std::vector<float> queries = RandomVectors(1, 31, 1);
  const std::vector<float> vectors = RandomVectors(100, 31, 2);
  std::vector<int64_t> rows;
  for (int64_t i = 0; i < 21; ++i) rows.push_back(99 - 3 * i);
  for (const Similarity similarity : {Similarity::kInnerProduct, Similarity::kEuclidean}) {
    std::vector<double> scores(rows.size());
    ExactScores(queries.data(), vectors, 31, similarity, rows, scores.data());
    for (size_t i = 0; i < rows.size(); ++i) {
      EXPECT_EQ(scores[i], Reference(queries.data(), &vectors[rows[i] * 31], 31, similarity));
      EXPECT_EQ(scores[i], ExactScore(queries.data(), &vectors[rows[i] * 31], 31, similarity));
    }
  }
}

TEST(ExactScoresTest, EuclideanOrdersByDistance) {
  const std::vector<float> query = {1, 0};
  const std::vector<float> near = {1.5F, 0};
  const std::vector<float> far = {9, 0};  // by inner product it would be the closer one
  EXPECT_GT(ExactScore(query.data(), near.data(), 2, Similarity::kEuclidean),
            ExactScore(query.data(), far.data(), 2, Similarity::kEuclidean));
}

TEST(ExactScoresTest, NothingToVisit) {
  const std::vector<float> some = {1, 2};
  const auto fail = [](const ScoreTile&) { FAIL(); };
  ForEachScoreTile({}, some, 2, {}, fail);
  ForEachScoreTile(some, {}, 2, {}, fail);
}

TEST(ExactScoresTest, CountAboveIsStrict) {
  std::vector<double> scores;
  for (int i = 0; i < 37; ++i) scores.push_back(i % 5);
  EXPECT_EQ(CountAbove(scores, 3), 7);
  EXPECT_EQ(CountAbove(scores, 2.5), 14);
  EXPECT_EQ(CountAbove(scores, 4), 0);
  EXPECT_EQ(CountAbove({}, 0), 0);
}

#if defined(__x86_64__)
void CheckKernel(const ExactScoreKernel& kernel) {
  constexpr int kDimension = 13;
  std::vector<double> group(kDimension * kernel.rows);
  std::vector<double> panel(kDimension * kernel.width);
  for (size_t i = 0; i < group.size(); ++i) group[i] = static_cast<float>(Philox(1).Uniform(i) - 0.5);
  for (size_t i = 0; i < panel.size(); ++i) panel[i] = static_cast<float>(Philox(2).Uniform(i) - 0.5);
  std::vector<double> out(kernel.rows * kernel.width);
  kernel.run(group.data(), panel.data(), kDimension, out.data(), kernel.width);
  for (int r = 0; r < kernel.rows; ++r) {
    for (int c = 0; c < kernel.width; ++c) {
      double sum = 0;
      for (int d = 0; d < kDimension; ++d) sum += group[d * kernel.rows + r] * panel[d * kernel.width + c];
      ASSERT_EQ(out[r * kernel.width + c], sum);
    }
  }
  int64_t above = 0;
  for (const double x : out) above += x > 0.125 ? 1 : 0;
  EXPECT_EQ(kernel.count_above(out.data(), static_cast<int64_t>(out.size()), 0.125), above);
}

TEST(ExactScoresTest, KernelsOfAllInstructionSetsAgree) {
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) CheckKernel(ExactScoresAvx2());
  if (__builtin_cpu_supports("avx512f")) CheckKernel(ExactScoresAvx512());
}
#endif

}  // namespace
}  // namespace doppel
