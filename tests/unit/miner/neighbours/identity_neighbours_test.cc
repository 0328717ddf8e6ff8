#include "miner/neighbours/identity_neighbours.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "common/base/philox.h"

namespace doppel {
namespace {

using testing::HasSubstr;

Matrix RandomRows(int64_t n, int dimension, uint64_t seed) {
  const Philox philox(seed);
  Matrix rows{n, dimension, {}};
  rows.values.reserve(n * dimension);
  for (int64_t i = 0; i < n * dimension; ++i) {
    rows.values.push_back(static_cast<float>(philox.Uniform(i) - 0.5));
  }
  NormalizeRows(rows);
  return rows;
}

float Cosine(const Matrix& rows, int64_t a, int64_t b) {
  double sum = 0;
  for (int d = 0; d < rows.dimension; ++d) {
    sum += static_cast<double>(rows.row(a)[d]) * static_cast<double>(rows.row(b)[d]);
  }
  return static_cast<float>(sum);
}

IdentityNeighbours BruteForce(const Matrix& rows, int k) {
  IdentityNeighbours result;
  result.neighbours = k;
  for (int64_t i = 0; i < rows.rows; ++i) {
    std::vector<std::pair<float, uint32_t>> others;
    for (int64_t j = 0; j < rows.rows; ++j) {
      if (j != i) others.emplace_back(-Cosine(rows, i, j), static_cast<uint32_t>(j));
    }
    std::sort(others.begin(), others.end());
    for (int j = 0; j < k; ++j) {
      result.rows.push_back(others[j].second);
      result.similarities.push_back(-others[j].first);
    }
  }
  return result;
}

NeighbourOptions Nearest(int k, int threads = 2) {
  NeighbourOptions options;
  options.neighbours = k;
  options.threads = threads;
  return options;
}

void ExpectSame(const IdentityNeighbours& a, const IdentityNeighbours& b) {
  EXPECT_EQ(a.neighbours, b.neighbours);
  EXPECT_EQ(a.rows, b.rows);
  EXPECT_EQ(a.similarities, b.similarities);
}

TEST(IdentityNeighbours, AgreesWithBruteForce) {
  // Sizes around those of groups, panels, tiles and strips.
  for (const auto& [n, dimension] : {std::pair{2, 3}, std::pair{33, 7}, std::pair{65, 16}, std::pair{129, 1},
                                     std::pair{300, 48}, std::pair{641, 5}}) {
    SCOPED_TRACE(testing::Message() << n << " x " << dimension);
    const Matrix rows = RandomRows(n, dimension, 7);
    const int k = std::min(n - 1, 10);
    ExpectSame(FindIdentityNeighbours(rows, Nearest(k)).value(), BruteForce(rows, k));
  }
}

TEST(IdentityNeighbours, LongRowsAndMoreNeighboursThanAStripHas) {
  const Matrix rows = RandomRows(200, 1500, 3);
  ExpectSame(FindIdentityNeighbours(rows, Nearest(150)).value(), BruteForce(rows, 150));
}

TEST(IdentityNeighbours, ThreadsDoNotShow) {
  const Matrix rows = RandomRows(900, 12, 5);
  const IdentityNeighbours one = FindIdentityNeighbours(rows, Nearest(20, 1)).value();
  ExpectSame(FindIdentityNeighbours(rows, Nearest(20, 3)).value(), one);
  ExpectSame(FindIdentityNeighbours(rows, Nearest(20, 0)).value(), one);
}

TEST(IdentityNeighbours, EqualSimilaritiesGoByAscendingRow) {
  Matrix rows = RandomRows(4, 6, 1);
  rows.rows = 400;
  rows.values.resize(400 * 6);
  for (int64_t i = 4; i < 400; ++i) std::copy_n(rows.row(i % 4), 6, rows.row(i));
  const IdentityNeighbours found = FindIdentityNeighbours(rows, Nearest(30)).value();
  for (uint32_t j = 0; j < 30; ++j) {
    EXPECT_EQ(found.rows[2 * 30 + j], 4 * (j + 1) + 2);  // 2 itself is not among them
    EXPECT_EQ(found.rows[399 * 30 + j], 4 * j + 3);      // the lowest, not the nearest by number
    EXPECT_EQ(found.similarities[j], found.similarities[0]);
  }
}

TEST(IdentityNeighbours, FewerOthersThanAskedFor) {
  const Matrix rows = RandomRows(5, 3, 2);
  const IdentityNeighbours found = FindIdentityNeighbours(rows, Nearest(64)).value();
  ExpectSame(found, BruteForce(rows, 4));
  EXPECT_EQ(found.neighbours, 4);
}

TEST(IdentityNeighbours, ALoneRowHasNone) {
  const IdentityNeighbours found = FindIdentityNeighbours(RandomRows(1, 3, 2), Nearest(8)).value();
  EXPECT_EQ(found.neighbours, 0);
  EXPECT_TRUE(found.rows.empty());
}

TEST(IdentityNeighbours, RowsOfZerosAreAsFarFromAllAsAnything) {
  Matrix rows = RandomRows(20, 4, 2);
  std::fill_n(rows.row(7), 4, 0.0F);
  ExpectSame(FindIdentityNeighbours(rows, Nearest(5)).value(), BruteForce(rows, 5));
}

TEST(IdentityNeighbours, RefusesWhatItCannotDo) {
  const auto error = [](const Matrix& rows, const NeighbourOptions& options) {
    const absl::Status status = FindIdentityNeighbours(rows, options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(error(RandomRows(5, 3, 1), Nearest(0)), HasSubstr("neighbours is 0"));
  EXPECT_THAT(error(Matrix{0, 3, {}}, Nearest(1)), HasSubstr("no row"));
  Matrix broken = RandomRows(5, 3, 1);
  broken.row(3)[1] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(error(broken, Nearest(1)), HasSubstr("row 3"));
}

TEST(IdentityNeighbours, ProgressRisesToAllRows) {
  NeighbourOptions options = Nearest(4);
  std::vector<int64_t> done;
  options.on_progress = [&](int64_t rows_done, int64_t rows) {
    EXPECT_EQ(rows, 500);
    done.push_back(rows_done);
    return true;
  };
  ASSERT_TRUE(FindIdentityNeighbours(RandomRows(500, 4, 1), options).ok());
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
  EXPECT_GT(done.size(), 3u);
  EXPECT_EQ(done.back(), 500);
}

TEST(IdentityNeighbours, CanBeCancelled) {
  for (const bool approximate : {false, true}) {
    NeighbourOptions options = Nearest(4);
    options.approximate = approximate;
    int calls = 0;
    options.on_progress = [&](int64_t, int64_t) { return ++calls < 2; };
    EXPECT_EQ(FindIdentityNeighbours(RandomRows(500, 4, 1), options).status().code(),
              absl::StatusCode::kCancelled);
    EXPECT_EQ(calls, 2);
  }
}

TEST(IdentityNeighbours, ApproximateFindsNearlyAll) {
  const Matrix rows = RandomRows(2000, 8, 4);
  NeighbourOptions options = Nearest(10);
  options.approximate = true;
  const IdentityNeighbours found = FindIdentityNeighbours(rows, options).value();
  const IdentityNeighbours truth = BruteForce(rows, 10);
  ASSERT_EQ(found.rows.size(), truth.rows.size());
  int64_t hits = 0;
  for (int64_t i = 0; i < 2000; ++i) {
    const auto begin = truth.rows.begin() + i * 10;
    for (int j = 0; j < 10; ++j) {
      EXPECT_NE(found.rows[i * 10 + j], i);
      hits += std::count(begin, begin + 10, found.rows[i * 10 + j]);
    }
  }
  EXPECT_GT(hits, 19000);
}

TEST(IdentityNeighbours, ApproximateWithEveryCellIsExact) {
  const Matrix rows = RandomRows(400, 8, 4);
  NeighbourOptions options = Nearest(10);
  options.approximate = true;
  options.probes = 1000;
  ExpectSame(FindIdentityNeighbours(rows, options).value(), BruteForce(rows, 10));
}

TEST(IdentityNeighbours, ApproximateComparesWithAllWhereCellsAreTooSmall) {
  // One far cloud of a few rows: its cells do not hold k others.
  Matrix rows = RandomRows(600, 8, 4);
  for (int64_t i = 0; i < rows.rows; ++i) rows.row(i)[0] = i < 5 ? -30.0F : 30.0F;
  NormalizeRows(rows);
  NeighbourOptions options = Nearest(12);
  options.approximate = true;
  options.probes = 1;
  const IdentityNeighbours found = FindIdentityNeighbours(rows, options).value();
  for (uint32_t row : found.rows) EXPECT_LT(row, 600u);
}

}  // namespace
}  // namespace doppel
