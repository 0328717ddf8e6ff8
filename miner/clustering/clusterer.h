#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "miner/representation/matrix.h"

namespace doppel {

// Where the first centroids come from.
enum class Seeding {
  kRandom,    // rows drawn without replacement, as FAISS draws them
  kPlusPlus,  // rows drawn in proportion to 1 - cosine to the nearest one drawn before (k-means++; Arthur and
              // Vassilvitskii, SODA 2007), on a sample, in rounds (k-means||; Bahmani et al., VLDB 2012)
};

// Who runs the iterations. The objective is the same but for rounding.
enum class ClusterEngine {
  kLloyd,  // ours: skips rows that bounds prove settled
  kFaiss,  // faiss::Clustering with our assignment
};

struct ClusterOptions {
  int subspaces = 1;    // M ≥ 1
  int iterations = 20;  // of k-means, at most
  // Stop after an iteration that improved the objective by less than this share of it. 0: never.
  double tolerance = 0;
  uint64_t seed = 0;
  int threads = 0;  // 0: as OpenMP has it
  Seeding seeding = Seeding::kRandom;
  ClusterEngine engine = ClusterEngine::kLloyd;
  // Above this many subspaces, clustering goes by two levels: about √M cells, each clustered by itself; then
  // a row's subspace is the best of its cell, not of all. 0: never. Ignored by a warm start and by kFaiss.
  int two_level_above = 10000;
  // Subspaces smaller than this are merged into the nearest remaining one (so the result may have fewer than
  // M).
  int64_t min_size = 1;
  // Subspaces larger than this are split into as few as it takes (so the result may have more than M). 0: no
  // maximum; otherwise at least 2 * min_size. After merging, so both hold (given min_size rows at all).
  int64_t max_size = 0;
  // No subspace may be larger than this multiple of N / M: rows that are too many go, the least attached
  // first, to the best subspace with room. 0: no balancing; otherwise at least 1. Before merging and
  // splitting.
  double balance = 0;
  // Warm start: [M', D] centroids of an earlier run, over the same dimension. Null: seeded from the rows. Not
  // owned. If M' > M, those nearest to most rows are kept; if M' < M, the rest is seeded by k-means++.
  const Matrix* initial_centroids = nullptr;
  // The better warm start after the model has moved, since it does not mind the embedding space having
  // turned: [N], the subspace that each row had before, -1 where it had none. The first centroids are those
  // of the rows as they are now; missing and surplus ones as above. Not owned; not together with
  // initial_centroids.
  const std::vector<int32_t>* initial_assignment = nullptr;
  // Called after each iteration with (iteration, of, objective); return false to cancel (CANCELLED).
  std::function<bool(int, int, double)> on_iteration;
};

struct ClusterResult {
  Matrix centroids;                 // [M', D], unit length
  std::vector<int32_t> assignment;  // [N], in [0, M')
  std::vector<float> similarity;    // [N], cosine to the assigned centroid
  std::vector<double> objective;    // per iteration: sum of 1 - cosine
  int merged = 0;                   // subspaces merged away by min_size
  int split = 0;                    // subspaces that max_size added
  int64_t moved = 0;                // rows that balance moved
};

// Spherical k-means over unit rows; all rows train (no subsampling). Deterministic for one set of arguments
// on one machine, independent of `threads`. Thread-safe.
class Clusterer {
 public:
  virtual ~Clusterer() = default;
  virtual absl::StatusOr<ClusterResult> Cluster(const Matrix& rows, const ClusterOptions& options) = 0;
};

}  // namespace doppel
