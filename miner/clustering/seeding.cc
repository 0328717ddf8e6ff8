#include "miner/clustering/seeding.h"

#include <faiss/utils/random.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/base/philox.h"
#include "common/base/status_macros.h"
#include "miner/clustering/nearest_centroid.h"

namespace doppel {
namespace {

constexpr uint64_t kPlusPlusTag = 0x6b2b2b;  // "k++"
constexpr int64_t kSamplePerCentroid = 32;
constexpr int64_t kSmallestSample = 4096;
// A round draws as many as there are, divided by this. One row per round is k-means++ as published; an eighth
// more at a time costs little quality, since it rarely draws two neighbours, and makes distances matrix
// products.
constexpr int64_t kShareOfRound = 8;

bool ScaleToUnit(float* row, int dimension) {
  double square = 0;
  for (int j = 0; j < dimension; ++j) square += double{row[j]} * row[j];
  if (!std::isfinite(square) || square == 0) return false;
  const double scale = 1 / std::sqrt(square);
  for (int j = 0; j < dimension; ++j) row[j] = static_cast<float>(row[j] * scale);
  return true;
}

// `count` rows of the view: all, or distinct ones at random, in their order.
std::vector<int32_t> Sample(const RowView& rows, int64_t count, const Philox& philox) {
  std::vector<int32_t> sample;
  sample.reserve(count);
  // Selection sampling (Knuth, algorithm S).
  for (int64_t i = 0; i < rows.count && static_cast<int64_t>(sample.size()) < count; ++i) {
    const int64_t wanted = count - static_cast<int64_t>(sample.size());
    if (static_cast<int64_t>(philox.Below(rows.count - i, i)) < wanted) {
      sample.push_back(rows.list == nullptr ? static_cast<int32_t>(i) : rows.list[i]);
    }
  }
  return sample;
}

// Adds rows of the view to the centroids until there are `subspaces`.
class PlusPlus {
 public:
  PlusPlus(const RowView& rows, int64_t subspaces, uint64_t seed, int threads)
      : subspaces_(subspaces),
        threads_(threads),
        philox_(MixKey(seed, kPlusPlusTag)),
        list_(Sample(rows, std::min(rows.count, std::max(kSmallestSample, kSamplePerCentroid * subspaces)),
                     philox_)),
        sample_{rows.values, rows.dimension, list_.data(), static_cast<int64_t>(list_.size())},
        distance_(list_.size(), 1),
        running_(list_.size()),
        nearest_(list_.size()),
        product_(list_.size()) {}

  void Fill(Matrix& centroids) {
    if (centroids.rows > 0) Approach(centroids, 0);
    while (centroids.rows < subspaces_) {
      const int64_t before = centroids.rows;
      Draw(std::min(std::max<int64_t>(1, before / kShareOfRound), subspaces_ - before), centroids);
      Approach(centroids, before);
    }
  }

 private:
  void Draw(int64_t count, Matrix& centroids) {
    std::partial_sum(distance_.begin(), distance_.end(), running_.begin());
    for (int64_t c = 0; c < count; ++c) {
      const double at = philox_.Uniform(static_cast<uint64_t>(centroids.rows), 1) * running_.back();
      int64_t i = std::upper_bound(running_.begin(), running_.end(), at) - running_.begin();
      if (i == sample_.count) {  // every row is a centroid already: any will do
        i = static_cast<int64_t>(philox_.Below(sample_.count, static_cast<uint64_t>(centroids.rows), 2));
      }
      centroids.values.insert(centroids.values.end(), sample_.row(i), sample_.row(i) + sample_.dimension);
      ++centroids.rows;
    }
  }

  // distance_ becomes what it is now that there are the centroids from `first` on.
  void Approach(const Matrix& centroids, int64_t first) {
    NearestCentroids(sample_, centroids.row(first), centroids.rows - first, threads_, nearest_.data(),
                     product_.data());
    for (size_t i = 0; i < distance_.size(); ++i) {
      const double distance = std::max(0.0, 1.0 - product_[i]);
      // Rounding must not draw a row again.
      distance_[i] = std::min(distance_[i], distance < 1e-6 ? 0 : distance);
    }
  }

  const int64_t subspaces_;
  const int threads_;
  const Philox philox_;
  const std::vector<int32_t> list_;
  const RowView sample_;
  std::vector<double> distance_;  // 1 - cosine to the nearest centroid
  std::vector<double> running_;
  std::vector<int64_t> nearest_;
  std::vector<float> product_;
};

// Of more centroids than wanted, those that most rows are nearest to, in their order.
Matrix KeepBusiest(const RowView& rows, const Matrix& centroids, int64_t wanted, int threads) {
  std::vector<int64_t> nearest(rows.count), size(centroids.rows, 0);
  std::vector<float> product(rows.count);
  NearestCentroids(rows, centroids.values.data(), centroids.rows, threads, nearest.data(), product.data());
  for (int64_t c : nearest) ++size[c];
  std::vector<int64_t> order(centroids.rows);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return size[a] > size[b]; });
  order.resize(wanted);
  std::sort(order.begin(), order.end());
  Matrix kept{wanted, centroids.dimension, {}};
  kept.values.reserve(wanted * centroids.dimension);
  for (int64_t c : order) {
    kept.values.insert(kept.values.end(), centroids.row(c), centroids.row(c) + centroids.dimension);
  }
  return kept;
}

absl::StatusOr<Matrix> GivenCentroids(const RowView& rows, const Matrix& given) {
  if (given.dimension != rows.dimension || given.rows < 1 ||
      given.values.size() != static_cast<size_t>(given.rows) * given.dimension) {
    return absl::InvalidArgumentError(absl::StrCat("cluster: initial centroids of ", given.rows, " x ",
                                                   given.dimension, " with ", given.values.size(),
                                                   " values for rows of dimension ", rows.dimension));
  }
  Matrix centroids = given;
  for (int64_t c = 0; c < centroids.rows; ++c) {
    if (!ScaleToUnit(centroids.row(c), centroids.dimension)) {
      return absl::InvalidArgumentError(
          absl::StrCat("cluster: initial centroid ", c, " has no direction: it is zeros or not finite"));
    }
  }
  return centroids;
}

// The directions of the rows that had the same subspace. Subspaces without rows are left out.
absl::StatusOr<Matrix> MeansOf(const RowView& rows, const std::vector<int32_t>& assignment) {
  const int d = rows.dimension;
  int32_t highest = -1;
  for (int64_t i = 0; i < rows.count; ++i) {
    const size_t at = rows.list == nullptr ? i : rows.list[i];
    if (at >= assignment.size() || assignment[at] < -1) {
      return absl::InvalidArgumentError(absl::StrCat("cluster: initial assignment of ", assignment.size(),
                                                     " rows has no valid entry for row ", at));
    }
    highest = std::max(highest, assignment[at]);
  }
  if (highest >= rows.count * 2 + 1000000) {
    return absl::InvalidArgumentError(absl::StrCat("cluster: initial assignment names subspace ", highest));
  }
  std::vector<double> sum((highest + int64_t{1}) * d, 0);
  for (int64_t i = 0; i < rows.count; ++i) {
    const int32_t subspace = assignment[rows.list == nullptr ? i : rows.list[i]];
    if (subspace < 0) continue;
    double* const to = sum.data() + int64_t{subspace} * d;
    for (int j = 0; j < d; ++j) to[j] += rows.row(i)[j];
  }
  Matrix means{0, d, {}};
  means.values.reserve(sum.size());
  std::vector<float> mean(d);
  for (int64_t s = 0; s <= highest; ++s) {
    for (int j = 0; j < d; ++j) mean[j] = static_cast<float>(sum[s * d + j]);
    if (!ScaleToUnit(mean.data(), d)) continue;
    means.values.insert(means.values.end(), mean.begin(), mean.end());
    ++means.rows;
  }
  return means;
}

// As FAISS' k-means draws them with this seed.
Matrix RandomRows(const RowView& rows, int64_t count, uint64_t seed) {
  std::vector<int> order(rows.count);
  faiss::rand_perm(order.data(), order.size(), FaissSeed(seed) + 1);
  Matrix centroids{count, rows.dimension, {}};
  centroids.values.reserve(count * rows.dimension);
  for (int64_t c = 0; c < count; ++c) {
    centroids.values.insert(centroids.values.end(), rows.row(order[c]), rows.row(order[c]) + rows.dimension);
  }
  return centroids;
}

}  // namespace

int FaissSeed(uint64_t seed) {
  constexpr uint64_t kSeedTag = 0x6b6d65616e73;  // "kmeans"
  return static_cast<int>(MixKey(seed, kSeedTag) & 0x3fffffff);
}

absl::StatusOr<Matrix> FirstCentroids(const RowView& rows, const ClusterOptions& options, int threads) {
  Matrix centroids{0, rows.dimension, {}};
  if (options.initial_centroids != nullptr) {
    ASSIGN_OR_RETURN(centroids, GivenCentroids(rows, *options.initial_centroids));
  } else if (options.initial_assignment != nullptr) {
    ASSIGN_OR_RETURN(centroids, MeansOf(rows, *options.initial_assignment));
  } else if (options.seeding == Seeding::kRandom) {
    centroids = RandomRows(rows, options.subspaces, options.seed);
  }
  if (centroids.rows > options.subspaces) return KeepBusiest(rows, centroids, options.subspaces, threads);
  centroids.values.reserve(static_cast<size_t>(options.subspaces) * rows.dimension);
  if (centroids.rows < options.subspaces) {
    PlusPlus(rows, options.subspaces, options.seed, threads).Fill(centroids);
  }
  // Rows are of unit length only nearly.
  for (int64_t c = 0; c < centroids.rows; ++c) ScaleToUnit(centroids.row(c), centroids.dimension);
  return centroids;
}

}  // namespace doppel
