#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/philox.h"
#include "common/io/atomic_file.h"
#include "common/io/file_system.h"
#include "doppel/v1/embedding.pb.h"
#include "doppel/v1/mining.pb.h"
#include "miner/clustering/clusterer.h"

namespace doppel {

// A folder of its own for each object, removed with it.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    // In memory where there is such a place: the tests sync thousands of times.
    std::string pattern = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : ::testing::TempDir();
    pattern += "/doppel-XXXXXX";
    path_ = mkdtemp(pattern.data());
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline std::string WriteModel(const std::string& directory, const std::string& fingerprint, int dimension,
                              int step = 700) {
  std::filesystem::create_directories(directory);
  EXPECT_TRUE(
      WriteFileAtomically(PosixFileSystem(), directory + "/model.json",
                          absl::StrCat("{\"architecture\": \"glyph_cnn\", \"fingerprint\": \"", fingerprint,
                                       "\", \"dimension\": ", dimension, ", \"step\": ", step, "}"))
          .ok());
  return directory;
}

// The synthetic mean embedding of an identity: near the axis identity % groups, shorter than 1.
inline float SyntheticValue(uint64_t identity, int d, int groups) {
  const double noise = 0.1 * (Philox(5).Uniform(identity, static_cast<uint64_t>(d)) - 0.5);
  return static_cast<float>(0.7 * (identity % static_cast<uint64_t>(groups) == static_cast<uint64_t>(d)) +
                            noise);
}

// What an embedder would commit for a lease.
inline v1::CommitRangeRequest Embed(const v1::EmbeddingLease& lease, int dimension, int groups) {
  v1::CommitRangeRequest commit;
  commit.set_lease(lease.lease());
  commit.set_operation(lease.operation());
  commit.set_model_fingerprint(lease.model_fingerprint());
  commit.set_first_identity(lease.first_identity());
  commit.set_identity_count(lease.identity_count());
  commit.set_dimension(static_cast<uint32_t>(dimension));
  commit.mutable_representations()->reserve(lease.identity_count() * dimension * sizeof(float));
  for (uint64_t i = 0; i < lease.identity_count(); ++i) {
    const uint64_t identity =
        lease.identities_size() > 0 ? lease.identities(static_cast<int>(i)) : lease.first_identity() + i;
    for (int d = 0; d < dimension; ++d) {
      const float value = SyntheticValue(identity, d, groups);
      commit.mutable_representations()->append(reinterpret_cast<const char*>(&value), sizeof value);
    }
    commit.add_samples(3);
  }
  return commit;
}

// Drives `miner` (a GenerationManager or a Miner) as an embedder would, until the operation is over or
// `commits` ranges were committed. Returns the ranges whose commit was acknowledged.
template <typename M>
std::vector<v1::CommitRangeRequest> EmbedUntilOver(M& miner, const std::string& operation, int dimension,
                                                   int groups, size_t commits = ~size_t{0}) {
  std::vector<v1::CommitRangeRequest> acknowledged;
  v1::LeaseRangeRequest request;
  request.set_worker("test");
  while (acknowledged.size() < commits) {
    const auto lease = miner.LeaseRange(request);
    if (!lease.ok() || !lease->has_lease()) {
      const auto state = miner.WaitOperation(operation, absl::Milliseconds(5));
      if (!state.ok() || state->state() != v1::Operation::STATE_RUNNING) break;
      continue;
    }
    v1::CommitRangeRequest commit = Embed(lease->lease(), dimension, groups);
    if (miner.CommitRange(commit).ok()) acknowledged.push_back(std::move(commit));
  }
  return acknowledged;
}

// Subspace m is around axis m. `before_iteration` runs on the job's thread before each iteration.
class AxisClusterer : public Clusterer {
 public:
  explicit AxisClusterer(std::function<void(int)> before_iteration = [](int) {})
      : before_iteration_(std::move(before_iteration)) {}

  absl::StatusOr<ClusterResult> Cluster(const Matrix& rows, const ClusterOptions& options) override {
    ClusterResult result;
    result.centroids = {options.subspaces, rows.dimension,
                        std::vector<float>(static_cast<size_t>(options.subspaces) * rows.dimension)};
    for (int m = 0; m < options.subspaces; ++m) result.centroids.row(m)[m] = 1;
    double objective = 0;
    for (int64_t i = 0; i < rows.rows; ++i) {
      int best = 0;
      for (int m = 1; m < options.subspaces; ++m) best = rows.row(i)[m] > rows.row(i)[best] ? m : best;
      result.assignment.push_back(best);
      result.similarity.push_back(rows.row(i)[best]);
      objective += 1 - rows.row(i)[best];
    }
    for (int i = 1; i <= options.iterations; ++i) {
      before_iteration_(i);
      result.objective.push_back(objective);
      if (!options.on_iteration(i, options.iterations, objective)) return absl::CancelledError("clustering");
    }
    return result;
  }

 private:
  const std::function<void(int)> before_iteration_;
};

}  // namespace doppel
