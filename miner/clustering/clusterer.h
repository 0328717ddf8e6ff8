#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "miner/representation/matrix.h"

namespace doppel {

struct ClusterOptions {
  int subspaces = 1;    // M ≥ 1
  int iterations = 20;  // of k-means
  uint64_t seed = 0;
  int threads = 0;  // 0: as OpenMP has it
  // Subspaces smaller than this are merged into the nearest remaining one (so the result may have fewer than
  // M).
  int64_t min_size = 1;
  // Warm start: [M, D] centroids of an earlier run, over the same dimension. Null: seeded from the rows. Not
  // owned.
  const Matrix* initial_centroids = nullptr;
  // Called after each iteration with (iteration, of, objective); return false to cancel (CANCELLED).
  std::function<bool(int, int, double)> on_iteration;
};

struct ClusterResult {
  Matrix centroids;                 // [M', D], unit length
  std::vector<int32_t> assignment;  // [N], in [0, M')
  std::vector<float> similarity;    // [N], cosine to the assigned centroid
  std::vector<double> objective;    // per iteration: sum of 1 - cosine
  int merged = 0;                   // subspaces merged away by min_size
};

// Spherical k-means over unit rows; all rows train (no subsampling). Deterministic for one set of arguments
// on one machine, independent of `threads`. Thread-safe.
class Clusterer {
 public:
  virtual ~Clusterer() = default;
  virtual absl::StatusOr<ClusterResult> Cluster(const Matrix& rows, const ClusterOptions& options) = 0;
};

}  // namespace doppel
