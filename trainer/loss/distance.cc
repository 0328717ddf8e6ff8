#include "trainer/loss/distance.h"

#include <ATen/ATen.h>

#include "absl/strings/str_cat.h"

namespace doppel {
namespace {

constexpr double kEpsilon = 1e-12;

torch::Tensor UnitRows(const torch::Tensor& x) {
  return x * (x.square().sum(1, /*keepdim=*/true) + kEpsilon).rsqrt();
}

}  // namespace

absl::StatusOr<Distance> ParseDistance(absl::string_view name) {
  if (name == "euclidean") return Distance::kEuclidean;
  if (name == "squared") return Distance::kSquaredEuclidean;
  if (name == "cosine") return Distance::kCosine;
  return absl::InvalidArgumentError(
      absl::StrCat("no distance is called \"", name, "\": choose euclidean, squared or cosine"));
}

absl::string_view DistanceName(Distance distance) {
  switch (distance) {
    case Distance::kEuclidean:
      return "euclidean";
    case Distance::kSquaredEuclidean:
      return "squared";
    case Distance::kCosine:
      return "cosine";
  }
  return "unknown";
}

torch::Tensor PairwiseDistances(const torch::Tensor& embeddings, Distance distance) {
  if (distance == Distance::kCosine) {
    const torch::Tensor unit = UnitRows(embeddings);
    return 1.0 - unit.mm(unit.t());
  }
  const torch::Tensor norms = embeddings.square().sum(1);
  torch::Tensor squared = torch::addmm(norms.unsqueeze(0), embeddings, embeddings.t(), 1, -2);
  squared = (squared + norms.unsqueeze(1)).clamp_min(0);
  return distance == Distance::kEuclidean ? (squared + kEpsilon).sqrt() : squared;
}

torch::Tensor PairDistances(const torch::Tensor& embeddings, const torch::Tensor& first,
                            const torch::Tensor& second, Distance distance) {
  if (distance == Distance::kCosine) {
    const torch::Tensor unit = UnitRows(embeddings);
    return 1.0 - (unit.index_select(0, first) * unit.index_select(0, second)).sum(1);
  }
  const torch::Tensor squared =
      (embeddings.index_select(0, first) - embeddings.index_select(0, second)).square().sum(1);
  return distance == Distance::kEuclidean ? (squared + kEpsilon).sqrt() : squared;
}

torch::Tensor ExactDistances(const torch::Tensor& rows, const torch::Tensor& columns, Distance distance) {
  constexpr int64_t kFromDifferences = 2;
  if (distance == Distance::kCosine) {
    // 1 - uv = |u - v|² / 2 + (1 - |u|²) / 2 + (1 - |v|²) / 2; the last two are 0 but for tiny rows.
    const torch::Tensor u = UnitRows(rows), v = UnitRows(columns);
    const torch::Tensor slack_u = (1 - u.square().sum(1)) / 2, slack_v = (1 - v.square().sum(1)) / 2;
    return at::cdist(u, v, 2, kFromDifferences).square() / 2 + slack_u.unsqueeze(1) + slack_v.unsqueeze(0);
  }
  const torch::Tensor squared = at::cdist(rows, columns, 2, kFromDifferences).square();
  return distance == Distance::kEuclidean ? (squared + kEpsilon).sqrt() : squared;
}

}  // namespace doppel
