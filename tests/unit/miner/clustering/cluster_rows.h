// What the tests of clusterers share: rows to cluster and what must hold of any result.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <set>

#include "common/base/philox.h"
#include "miner/clustering/faiss_clusterer.h"

namespace doppel {

// `groups` tight bundles of `each` unit rows; row i belongs to bundle i % groups.
inline Matrix Bundles(int groups, int each, int dimension, uint64_t seed, double noise = 0.05) {
  const Philox directions(seed), offsets(seed + 1);
  Matrix rows{int64_t{groups} * each, dimension, {}};
  rows.values.resize(rows.rows * dimension);
  for (int64_t i = 0; i < rows.rows; ++i) {
    for (int j = 0; j < dimension; ++j) {
      rows.row(i)[j] = static_cast<float>(directions.Uniform((i % groups) * dimension + j) - 0.5 +
                                          noise * (offsets.Uniform(i * dimension + j) - 0.5));
    }
  }
  NormalizeRows(rows);
  return rows;
}

inline ClusterOptions Options(int subspaces, int iterations = 10, uint64_t seed = 1) {
  ClusterOptions options;
  options.subspaces = subspaces;
  options.iterations = iterations;
  options.seed = seed;
  return options;
}

inline ClusterResult Cluster(const Matrix& rows, const ClusterOptions& options) {
  auto result = MakeFaissClusterer()->Cluster(rows, options);
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? *result : ClusterResult{};
}

inline absl::Status Error(const Matrix& rows, const ClusterOptions& options) {
  return MakeFaissClusterer()->Cluster(rows, options).status();
}

inline double DotOf(const float* a, const float* b, int dimension) {
  double sum = 0;
  for (int j = 0; j < dimension; ++j) sum += double{a[j]} * b[j];
  return sum;
}

inline void ExpectSound(const Matrix& rows, const ClusterResult& result) {
  ASSERT_EQ(result.assignment.size(), static_cast<size_t>(rows.rows));
  ASSERT_EQ(result.similarity.size(), static_cast<size_t>(rows.rows));
  ASSERT_EQ(result.centroids.values.size(), static_cast<size_t>(result.centroids.rows * rows.dimension));
  std::set<int32_t> used;
  for (int64_t i = 0; i < rows.rows; ++i) {
    ASSERT_GE(result.assignment[i], 0);
    ASSERT_LT(result.assignment[i], result.centroids.rows);
    used.insert(result.assignment[i]);
    EXPECT_NEAR(result.similarity[i],
                DotOf(rows.row(i), result.centroids.row(result.assignment[i]), rows.dimension), 1e-4);
  }
  EXPECT_EQ(used.size(), static_cast<size_t>(result.centroids.rows)) << "empty subspaces";
  for (int64_t s = 0; s < result.centroids.rows; ++s) {
    EXPECT_NEAR(DotOf(result.centroids.row(s), result.centroids.row(s), rows.dimension), 1, 1e-4);
  }
}

}  // namespace doppel
