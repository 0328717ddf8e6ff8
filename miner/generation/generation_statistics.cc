#include "miner/generation/generation_statistics.h"

#include <algorithm>
#include <cstdint>
#include <thread>
#include <vector>

#include "common/base/executor.h"

namespace doppel {
namespace {

struct Nearest {
  int64_t subspace = 0;
  float cosine = 0;
};

// Eight sums, so that the compiler may use vectors without reordering one.
float Dot(const float* a, const float* b, int n) {
  float sums[8] = {};
  int i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int j = 0; j < 8; ++j) sums[j] += a[i + j] * b[i + j];
  }
  float rest = 0;
  for (; i < n; ++i) rest += a[i] * b[i];
  return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7])) + rest;
}

std::vector<Nearest> NearestCentroids(const Matrix& centroids, int threads) {
  std::vector<Nearest> nearest(centroids.rows);
  ParallelFor(centroids.rows, 64, threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      Nearest best{i, -2.0F};
      for (int64_t j = 0; j < centroids.rows; ++j) {
        if (j == i) continue;
        const float cosine = Dot(centroids.row(i), centroids.row(j), centroids.dimension);
        if (cosine > best.cosine) best = {j, cosine};
      }
      // The only one there is has itself.
      nearest[i] = centroids.rows == 1 ? Nearest{0, 1.0F} : best;
    }
  });
  return nearest;
}

}  // namespace

void DescribeSubspaces(const Matrix& centroids, absl::Span<const int32_t> assignment,
                       absl::Span<const float> similarity, int threads, v1::GenerationInfo& info) {
  if (threads <= 0) threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  std::vector<uint64_t> sizes(centroids.rows);
  std::vector<double> sums(centroids.rows);
  std::vector<double> maxima(centroids.rows);
  for (size_t i = 0; i < assignment.size(); ++i) {
    const double radius = std::max(0.0, 1.0 - static_cast<double>(similarity[i]));
    ++sizes[assignment[i]];
    sums[assignment[i]] += radius;
    maxima[assignment[i]] = std::max(maxima[assignment[i]], radius);
  }
  const std::vector<Nearest> nearest = NearestCentroids(centroids, threads);
  info.clear_subspace();
  for (int64_t m = 0; m < centroids.rows; ++m) {
    v1::SubspaceInfo& subspace = *info.add_subspace();
    subspace.set_subspace(static_cast<uint32_t>(m));
    subspace.set_identities(sizes[m]);
    subspace.set_mean_radius(sizes[m] == 0 ? 0 : sums[m] / static_cast<double>(sizes[m]));
    subspace.set_max_radius(maxima[m]);
    subspace.set_nearest_subspace(static_cast<uint32_t>(nearest[m].subspace));
    subspace.set_nearest_cosine(nearest[m].cosine);
  }
  info.set_identities(assignment.size());
  info.set_subspaces(static_cast<uint32_t>(centroids.rows));
  info.set_dimension(static_cast<uint32_t>(centroids.dimension));
  const auto [smallest, largest] = std::minmax_element(sizes.begin(), sizes.end());
  info.set_smallest_subspace(*smallest);
  info.set_largest_subspace(*largest);
  info.set_imbalance(static_cast<double>(*largest) * static_cast<double>(centroids.rows) /
                     static_cast<double>(assignment.size()));
}

void DescribeNeighbours(const GenerationContents& contents, v1::GenerationInfo& info) {
  const uint64_t k = info.neighbours();
  if (k == 0) return;
  std::vector<double> sums(static_cast<size_t>(info.subspace_size()));
  std::vector<uint64_t> inside(sums.size());
  const IdentityRows covered = contents.rows();
  for (size_t i = 0; i < contents.assignment.size(); ++i) {
    const int32_t subspace = contents.assignment[i];
    for (size_t j = i * k; j < (i + 1) * k; ++j) {
      sums[subspace] += static_cast<double>(contents.similarities[j]);
      inside[subspace] += contents.assignment[covered.Row(contents.neighbours[j])] == subspace;
    }
  }
  double sum = 0;
  for (v1::SubspaceInfo& subspace : *info.mutable_subspace()) {
    const double neighbours = static_cast<double>(subspace.identities() * k);
    sum += sums[subspace.subspace()];
    if (neighbours == 0) continue;
    subspace.set_lookalike_density(sums[subspace.subspace()] / neighbours);
    subspace.set_neighbours_inside(static_cast<double>(inside[subspace.subspace()]) / neighbours);
  }
  info.set_lookalike_density(sum / static_cast<double>(contents.assignment.size() * k));
}

}  // namespace doppel
