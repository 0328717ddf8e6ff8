#include "services/miner_server/similarity.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

namespace doppel {
namespace {

float Dot(absl::Span<const float> a, absl::Span<const float> b) {
  constexpr size_t kLanes = 8;  // a fixed shape that the compiler turns into vectors
  std::array<float, kLanes> sums{};
  size_t i = 0;
  for (; i + kLanes <= a.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  float sum = 0;
  for (float lane : sums) sum += lane;
  for (; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

SimilarityStatistics BatchSimilarity(const Generation* generation, absl::Span<const uint64_t> identities) {
  SimilarityStatistics statistics;
  if (generation == nullptr || generation->dimension() <= 0) return statistics;
  std::vector<absl::Span<const float>> rows;
  rows.reserve(identities.size());
  for (uint64_t identity : identities) {
    if (generation->Covers(identity)) rows.push_back(generation->Representation(identity));
  }
  if (rows.size() < 2) return statistics;
  double sum = 0;
  float max = -1;
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t j = i + 1; j < rows.size(); ++j) {
      const float cosine = Dot(rows[i], rows[j]);
      sum += cosine;
      max = std::max(max, cosine);
    }
  }
  const double pairs = 0.5 * static_cast<double>(rows.size()) * static_cast<double>(rows.size() - 1);
  statistics.mean = static_cast<float>(sum / pairs);
  statistics.max = max;
  return statistics;
}

}  // namespace doppel
