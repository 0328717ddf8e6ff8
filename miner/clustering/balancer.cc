#include "miner/clustering/balancer.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>
#include <vector>

namespace doppel {
namespace {

double Dot(const float* a, const float* b, int dimension) {
  double sum = 0;
  for (int j = 0; j < dimension; ++j) sum += double{a[j]} * b[j];
  return sum;
}

class Merger {
 public:
  Merger(const Matrix& rows, ClusterResult* result, int64_t min_size)
      : rows_(rows),
        result_(*result),
        min_size_(std::max<int64_t>(1, min_size)),
        size_(result->centroids.rows, 0),
        into_(result->centroids.rows, kAlive),
        changed_(result->centroids.rows, false) {
    for (int32_t subspace : result_.assignment) ++size_[subspace];
    for (int64_t s = 0; s < result_.centroids.rows; ++s) by_size_.emplace(size_[s], s);
  }

  void Run() {
    if (by_size_.begin()->first >= min_size_) return;
    SumRows();
    while (by_size_.size() > 1 && by_size_.begin()->first < min_size_) MergeSmallest();
    Renumber();
  }

 private:
  static constexpr int64_t kAlive = -1;

  void SumRows() {
    const int d = rows_.dimension;
    sum_.assign(result_.centroids.rows * d, 0);
    for (int64_t i = 0; i < rows_.rows; ++i) {
      double* sum = sum_.data() + int64_t{result_.assignment[i]} * d;
      for (int j = 0; j < d; ++j) sum[j] += rows_.row(i)[j];
    }
  }

  int64_t NearestTo(int64_t subspace) const {
    int64_t nearest = -1;
    double best = 0;
    for (int64_t s = 0; s < result_.centroids.rows; ++s) {
      if (s == subspace || into_[s] != kAlive) continue;
      const double cosine = Dot(result_.centroids.row(s), result_.centroids.row(subspace), rows_.dimension);
      if (nearest < 0 || cosine > best) {
        nearest = s;
        best = cosine;
      }
    }
    return nearest;
  }

  void MergeSmallest() {
    const auto [size, from] = *by_size_.begin();
    by_size_.erase(by_size_.begin());
    const int64_t to = NearestTo(from);
    into_[from] = to;
    ++result_.merged;
    if (size == 0) return;
    by_size_.erase({size_[to], to});
    size_[to] += size;
    by_size_.emplace(size_[to], to);
    changed_[to] = true;
    UpdateCentroid(from, to);
  }

  void UpdateCentroid(int64_t from, int64_t to) {
    const int d = rows_.dimension;
    double* sum = sum_.data() + to * d;
    double square = 0;
    for (int j = 0; j < d; ++j) {
      sum[j] += sum_[from * d + j];
      square += sum[j] * sum[j];
    }
    if (square == 0) return;  // opposite rows have no mean direction: the old centroid stays
    for (int j = 0; j < d; ++j) result_.centroids.row(to)[j] = static_cast<float>(sum[j] / std::sqrt(square));
  }

  void Renumber() {
    const int d = rows_.dimension;
    std::vector<int32_t> number(into_.size());
    int32_t next = 0;
    for (size_t s = 0; s < into_.size(); ++s) {
      if (into_[s] == kAlive) number[s] = next++;
    }
    for (int64_t i = 0; i < rows_.rows; ++i) {
      int64_t subspace = result_.assignment[i];
      while (into_[subspace] != kAlive) subspace = into_[subspace];
      if (changed_[subspace]) {
        result_.similarity[i] = static_cast<float>(Dot(rows_.row(i), result_.centroids.row(subspace), d));
      }
      result_.assignment[i] = number[subspace];
    }
    for (size_t s = 0; s < into_.size(); ++s) {
      if (into_[s] == kAlive) std::copy_n(result_.centroids.row(s), d, result_.centroids.row(number[s]));
    }
    result_.centroids.rows = next;
    result_.centroids.values.resize(static_cast<size_t>(next) * d);
  }

  const Matrix& rows_;
  ClusterResult& result_;
  const int64_t min_size_;
  std::vector<int64_t> size_;
  std::vector<int64_t> into_;                      // kAlive, or the subspace that it was merged into
  std::vector<bool> changed_;                      // its centroid is a new one
  std::vector<double> sum_;                        // of the rows of each subspace
  std::set<std::pair<int64_t, int64_t>> by_size_;  // (size, subspace) of those alive
};

}  // namespace

ClusterResult MergeSmallSubspaces(const Matrix& rows, ClusterResult result, int64_t min_size) {
  if (result.centroids.rows > 0) Merger(rows, &result, min_size).Run();
  return result;
}

}  // namespace doppel
