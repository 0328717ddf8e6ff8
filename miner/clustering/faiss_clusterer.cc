#include "miner/clustering/faiss_clusterer.h"

#include <faiss/Clustering.h>
#include <faiss/IndexFlat.h>
#include <faiss/impl/FaissAssert.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "miner/clustering/balancer.h"
#include "miner/clustering/nearest_centroid.h"
#include "miner/clustering/row_view.h"
#include "miner/clustering/seeding.h"

namespace doppel {
namespace {

constexpr double kUnitTolerance = 1e-3;

// The setting belongs to the calling thread, so others that cluster are not touched.
class ScopedOmpThreads {
 public:
  explicit ScopedOmpThreads(int threads) : before_(omp_get_max_threads()) {
    if (threads > 0) omp_set_num_threads(threads);
  }
  ~ScopedOmpThreads() { omp_set_num_threads(before_); }

 private:
  const int before_;
};

double Objective(const std::vector<float>& similarity) {
  double sum = 0;
  for (float s : similarity) sum += 1.0 - s;
  return sum;
}

bool HasConverged(const std::vector<double>& objective, double tolerance) {
  if (tolerance <= 0 || objective.size() < 2) return false;
  const double before = objective[objective.size() - 2], now = objective.back();
  return before - now < tolerance * before;
}

// What FAISS' k-means asks for the nearest centroids: it does so once per iteration, which is our moment to
// report and to be cancelled. (FAISS' own objective is summed in float, and its interrupt is a global.)
class ReportingIndex : public faiss::IndexFlatIP {
 public:
  ReportingIndex(int dimension, const ClusterOptions& options, int threads)
      : faiss::IndexFlatIP(dimension), options_(options), threads_(threads) {}

  void search(idx_t n, const float* x, idx_t k, float* distances, idx_t* labels,
              const faiss::SearchParameters* params = nullptr) const override {
    FAISS_THROW_IF_NOT(k == 1);
    NearestCentroids(x, n, get_xb(), ntotal, d, threads_, labels, distances);
    double sum = 0;
    for (idx_t i = 0; i < n; ++i) sum += 1.0 - distances[i];
    objective_.push_back(sum);
    if (options_.on_iteration &&
        !options_.on_iteration(static_cast<int>(objective_.size()), options_.iterations, sum)) {
      cancelled_ = true;
      FAISS_THROW_MSG("cancelled");  // the one way out of FAISS' loop
    }
    if (HasConverged(objective_, options_.tolerance)) {
      converged_ = true;
      FAISS_THROW_MSG("converged");
    }
  }

  const std::vector<double>& objective() const { return objective_; }
  bool cancelled() const { return cancelled_; }
  bool converged() const { return converged_; }

 private:
  const ClusterOptions& options_;
  const int threads_;
  mutable std::vector<double> objective_;  // search is const; one thread calls it
  mutable bool cancelled_ = false;
  mutable bool converged_ = false;
};

absl::Status CheckOptions(const Matrix& rows, const ClusterOptions& options) {
  if (options.subspaces < 1 || options.iterations < 1) {
    return absl::InvalidArgumentError(absl::StrCat("cluster: subspaces ", options.subspaces, ", iterations ",
                                                   options.iterations, ": both must be at least 1"));
  }
  if (rows.rows < 1 || rows.dimension < 1 || rows.rows > std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError(absl::StrCat("cluster: matrix of ", rows.rows, " x ", rows.dimension,
                                                   ": there must be 1 to 2^31 - 1 rows of at least 1 value"));
  }
  if (rows.values.size() != static_cast<size_t>(rows.rows) * rows.dimension) {
    return absl::InvalidArgumentError(
        absl::StrCat("cluster: ", rows.values.size(), " values for ", rows.rows, " x ", rows.dimension));
  }
  if (!(options.tolerance >= 0 && options.tolerance < 1) || !(options.balance == 0 || options.balance >= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("cluster: tolerance ", options.tolerance, ", balance ", options.balance,
                     ": the first must be in [0, 1), the second 0 or at least 1"));
  }
  if (options.max_size < 0 ||
      (options.max_size > 0 && options.max_size / 2 < std::max<int64_t>(1, options.min_size))) {
    return absl::InvalidArgumentError(
        absl::StrCat("cluster: max_size ", options.max_size, " with min_size ", options.min_size,
                     ": the maximum must be 0 (none) or at least twice the minimum"));
  }
  if (options.initial_assignment != nullptr &&
      (options.initial_centroids != nullptr ||
       options.initial_assignment->size() != static_cast<size_t>(rows.rows))) {
    return absl::InvalidArgumentError(
        absl::StrCat("cluster: initial assignment of ", options.initial_assignment->size(), " for ",
                     rows.rows, " rows: there must be one entry per row, and no initial centroids beside"));
  }
  return absl::OkStatus();
}

// Numbers of the rows that are not zeros.
absl::StatusOr<std::vector<int32_t>> CheckRows(const Matrix& rows) {
  std::vector<int32_t> kept;
  kept.reserve(rows.rows);
  for (int64_t i = 0; i < rows.rows; ++i) {
    double square = 0;
    for (int j = 0; j < rows.dimension; ++j) square += double{rows.row(i)[j]} * rows.row(i)[j];
    if (square == 0) continue;
    if (!(std::abs(std::sqrt(square) - 1) < kUnitTolerance)) {
      return absl::InvalidArgumentError(absl::StrCat("cluster: row ", i, " has length ", std::sqrt(square),
                                                     ": rows must be of unit length"));
    }
    kept.push_back(static_cast<int32_t>(i));
  }
  if (kept.empty())
    return absl::InvalidArgumentError("cluster: every row is zeros, there is nothing to cluster");
  return kept;
}

// Trains centroids with FAISS' own loop. It wants rows one after the other: a list of them is copied. Throws
// what FAISS throws.
absl::Status TrainFaiss(const RowView& rows, Matrix first, const ClusterOptions& options,
                        ClusterResult* result) {
  std::vector<float> copied;
  if (rows.list != nullptr) {
    copied.reserve(rows.count * rows.dimension);
    for (int64_t i = 0; i < rows.count; ++i) {
      copied.insert(copied.end(), rows.row(i), rows.row(i) + rows.dimension);
    }
  }
  faiss::ClusteringParameters parameters;
  parameters.niter = options.iterations;
  parameters.spherical = true;
  parameters.seed = FaissSeed(options.seed);
  parameters.min_points_per_centroid = 1;                                // or it prints a warning
  parameters.max_points_per_centroid = std::numeric_limits<int>::max();  // or it trains on a sample
  faiss::Clustering clustering(rows.dimension, options.subspaces, parameters);
  clustering.centroids = std::move(first.values);
  ReportingIndex index(rows.dimension, options, omp_get_max_threads());
  try {
    clustering.train(rows.count, rows.list == nullptr ? rows.values : copied.data(), index);
  } catch (const faiss::FaissException&) {
    if (index.cancelled()) {
      return absl::CancelledError(absl::StrCat("cluster: cancelled after iteration ",
                                               index.objective().size(), " of ", options.iterations));
    }
    if (!index.converged()) throw;
  }
  result->centroids = Matrix{options.subspaces, rows.dimension, std::move(clustering.centroids)};
  result->objective = index.objective();
  return absl::OkStatus();
}

// Exact, with the final centroids. Block after block, so that 64-bit numbers never exist for all rows.
void Assign(const RowView& rows, ClusterResult* result) {
  constexpr int64_t kBlock = 1 << 16;
  result->assignment.resize(rows.count);
  result->similarity.resize(rows.count);
  std::vector<int64_t> nearest(std::min(kBlock, rows.count));
  for (int64_t begin = 0; begin < rows.count; begin += kBlock) {
    const int64_t count = std::min(kBlock, rows.count - begin);
    NearestCentroids(rows.Part(begin, count), result->centroids.values.data(), result->centroids.rows,
                     omp_get_max_threads(), nearest.data(), result->similarity.data() + begin);
    std::copy_n(nearest.begin(), count, result->assignment.begin() + begin);
  }
}

// From the rows that trained back to all rows.
void Scatter(const std::vector<int32_t>& kept, int64_t rows, ClusterResult* result) {
  std::vector<int32_t> assignment(rows, 0);
  std::vector<float> similarity(rows, 0);
  for (size_t i = 0; i < kept.size(); ++i) {
    assignment[kept[i]] = result->assignment[i];
    similarity[kept[i]] = result->similarity[i];
  }
  result->assignment = std::move(assignment);
  result->similarity = std::move(similarity);
}

absl::Status ClusterRows(const RowView& rows, const ClusterOptions& options, ClusterResult* result) {
  if (options.subspaces < rows.count) {
    ASSIGN_OR_RETURN(Matrix first, FirstCentroids(rows, options, omp_get_max_threads()));
    RETURN_IF_ERROR(TrainFaiss(rows, std::move(first), options, result));
    Assign(rows, result);
    return absl::OkStatus();
  }
  result->centroids = Matrix{rows.count, rows.dimension, {}};
  result->centroids.values.reserve(rows.count * rows.dimension);
  for (int64_t i = 0; i < rows.count; ++i) {
    result->centroids.values.insert(result->centroids.values.end(), rows.row(i),
                                    rows.row(i) + rows.dimension);
  }
  Assign(rows, result);
  result->objective = {Objective(result->similarity)};
  if (options.on_iteration && !options.on_iteration(1, 1, result->objective[0])) {
    return absl::CancelledError("cluster: cancelled after iteration 1 of 1");
  }
  return absl::OkStatus();
}

class FaissClusterer : public Clusterer {
 public:
  absl::StatusOr<ClusterResult> Cluster(const Matrix& rows, const ClusterOptions& options) override {
    RETURN_IF_ERROR(CheckOptions(rows, options));
    const ScopedOmpThreads threads(options.threads);
    try {
      ASSIGN_OR_RETURN(const std::vector<int32_t> kept, CheckRows(rows));
      const bool all = kept.size() == static_cast<size_t>(rows.rows);
      const RowView view = all ? RowView::All(rows) : RowView::Of(rows, kept);
      ClusterResult result;
      RETURN_IF_ERROR(ClusterRows(view, options, &result));
      BalanceSubspaces(view, {options.min_size, options.max_size, options.balance}, omp_get_max_threads(),
                       &result);
      if (!all) Scatter(kept, rows.rows, &result);
      return result;
    } catch (const std::bad_alloc&) {
      return absl::ResourceExhaustedError(absl::StrCat("cluster: out of memory with ", rows.rows, " x ",
                                                       rows.dimension, " rows and ", options.subspaces,
                                                       " subspaces"));
    } catch (const std::exception& e) {
      return absl::InternalError(absl::StrCat("cluster: FAISS: ", e.what()));
    }
  }
};

}  // namespace

std::unique_ptr<Clusterer> MakeFaissClusterer() { return std::make_unique<FaissClusterer>(); }

}  // namespace doppel
