#include "miner/clustering/lloyd.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/base/executor.h"
#include "miner/clustering/bounded_assignment.h"
#include "miner/clustering/nearest_centroid_kernel.h"

namespace doppel {
namespace {

// A centroid without rows and the one that it takes from are moved apart by so much (as FAISS does).
constexpr double kSplitStep = 1.0 / 1024;

class Lloyd {
 public:
  Lloyd(const RowView& rows, Matrix first, const ClusterOptions& options, int threads)
      : rows_(rows),
        options_(options),
        threads_(threads),
        kernel_(BestNearestCentroidKernel()),
        centroids_(std::move(first)),
        sum_(centroids_.values.size(), 0),
        size_(centroids_.rows, 0),
        assignment_(rows, centroids_, kernel_, threads) {}

  absl::Status Run(ClusterResult* result) {
    for (int iteration = 1; iteration <= options_.iterations; ++iteration) {
      const bool moved = Assign();
      objective_.push_back(Objective());
      if (options_.on_iteration &&
          !options_.on_iteration(iteration, options_.iterations, objective_.back())) {
        return absl::CancelledError(
            absl::StrCat("cluster: cancelled after iteration ", iteration, " of ", options_.iterations));
      }
      if (HasConverged(objective_, options_.tolerance)) break;
      MoveCentroids();
      if (!moved && !split_) break;
    }
    Assign();
    result->centroids = std::move(centroids_);
    result->objective = std::move(objective_);
    assignment_.Take(result->centroids, &result->assignment, &result->similarity);
    return absl::OkStatus();
  }

 private:
  // True if any row moved.
  bool Assign() {
    const std::vector<std::vector<MovedRow>>& moved = assignment_.Run(centroids_);
    bool any = false;
    for (const std::vector<MovedRow>& chunk : moved) {
      any = any || !chunk.empty();
      for (const MovedRow& row : chunk) {
        if (row.from >= 0) --size_[row.from];
        ++size_[row.to];
      }
    }
    if (any) UpdateSums(moved);
    return any;
  }

  // Threads share the dimensions out, so that every sum is made in the order of the rows.
  void UpdateSums(const std::vector<std::vector<MovedRow>>& moved) {
    constexpr int64_t kLine = 16;
    const int d = rows_.dimension;
    const int64_t lines = (d + kLine - 1) / kLine;
    const int64_t slice = (lines + threads_ - 1) / std::max(1, threads_) * kLine;
    ParallelFor(d, slice, threads_, [&](int64_t begin, int64_t end) {
      const int count = static_cast<int>(end - begin);
      for (const std::vector<MovedRow>& chunk : moved) {
        for (const MovedRow& moving : chunk) {
          const float* row = rows_.row(moving.row) + begin;
          if (moving.from >= 0) kernel_.subtract(row, count, sum_.data() + int64_t{moving.from} * d + begin);
          kernel_.add(row, count, sum_.data() + int64_t{moving.to} * d + begin);
        }
      }
    });
  }

  // Sum of 1 - cosine, by way of the sums: a subspace's products with its centroid add up to its sum's.
  double Objective() const {
    double similarity = 0;
    for (size_t j = 0; j < sum_.size(); ++j) similarity += sum_[j] * centroids_.values[j];
    return static_cast<double>(rows_.count) - similarity;
  }

  void MoveCentroids() {
    const int d = rows_.dimension;
    split_ = false;
    for (int64_t c = 0; c < centroids_.rows; ++c) {
      if (size_[c] > 0) Direct(sum_.data() + c * d, centroids_.row(c));
    }
    std::vector<int64_t> size = size_;
    for (int64_t c = 0; c < centroids_.rows; ++c) {
      if (size[c] > 0) continue;
      const int64_t donor = std::max_element(size.begin(), size.end()) - size.begin();
      if (size[donor] < 2) break;
      split_ = true;
      size[c] = size[donor] / 2;
      size[donor] -= size[c];
      MoveApart(centroids_.row(donor), centroids_.row(c));
    }
  }

  // To unit length; rows that cancel out have no direction, and the centroid stays.
  void Direct(const double* sum, float* centroid) const {
    double square = 0;
    for (int j = 0; j < rows_.dimension; ++j) square += sum[j] * sum[j];
    if (square < 1e-20) return;
    const double scale = 1 / std::sqrt(square);
    for (int j = 0; j < rows_.dimension; ++j) centroid[j] = static_cast<float>(sum[j] * scale);
  }

  void MoveApart(float* donor, float* receiver) const {
    const int d = rows_.dimension;
    std::vector<double> one(d), other(d);
    for (int j = 0; j < d; ++j) {
      const double step = j % 2 == 0 ? kSplitStep : -kSplitStep;
      one[j] = donor[j] * (1 + step);
      other[j] = donor[j] * (1 - step);
    }
    Direct(one.data(), receiver);
    Direct(other.data(), donor);
  }

  const RowView rows_;
  const ClusterOptions& options_;
  const int threads_;
  const NearestCentroidKernel kernel_;
  Matrix centroids_;
  std::vector<double> sum_;    // [M, D], of the rows of each subspace
  std::vector<int64_t> size_;  // [M]
  BoundedAssignment assignment_;
  std::vector<double> objective_;
  bool split_ = false;  // the last move gave rows to centroids without any
};

}  // namespace

bool HasConverged(const std::vector<double>& objective, double tolerance) {
  if (tolerance <= 0 || objective.size() < 2) return false;
  const double before = objective[objective.size() - 2], now = objective.back();
  return before - now < tolerance * before;
}

absl::Status RunLloyd(const RowView& rows, Matrix first, const ClusterOptions& options, int threads,
                      ClusterResult* result) {
  return Lloyd(rows, std::move(first), options, threads).Run(result);
}

}  // namespace doppel
