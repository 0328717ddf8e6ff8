#include "trainer/train/inspect.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

namespace doppel {
namespace {

Histogram HistogramOf(const torch::Tensor& tensor) {
  const torch::Tensor flat = tensor.detach().to(torch::kCPU, torch::kFloat32).contiguous();
  return ComputeHistogram({flat.data_ptr<float>(), static_cast<size_t>(flat.numel())});
}

// The hardest triplet of every anchor that has one; distances: [B, B] on the CPU.
std::vector<HardTriplet> HardestOfEachAnchor(const float* distances, absl::Span<const int64_t> identities) {
  const int64_t n = static_cast<int64_t>(identities.size());
  std::vector<HardTriplet> result;
  for (int64_t a = 0; a < n; ++a) {
    const float* row = distances + a * n;
    int64_t positive = -1, negative = -1;
    for (int64_t i = 0; i < n; ++i) {
      if (i == a) continue;
      int64_t& best = identities[i] == identities[a] ? positive : negative;
      const bool harder =
          identities[i] == identities[a] ? best < 0 || row[i] > row[best] : best < 0 || row[i] < row[best];
      if (harder) best = i;
    }
    if (positive >= 0 && negative >= 0) {
      result.push_back({a, positive, negative, row[positive], row[negative]});
    }
  }
  return result;
}

}  // namespace

StepSnapshot InspectBatch(const torch::Tensor& embeddings, absl::Span<const int64_t> identities,
                          Distance distance, size_t triplets) {
  const c10::AutoGradMode no_grad(false);
  StepSnapshot snapshot;
  const torch::Tensor rows = embeddings.detach().to(torch::kCPU, torch::kFloat32);
  snapshot.norms = HistogramOf(rows.norm(2, {1}));
  const torch::Tensor distances = PairwiseDistances(rows, distance).to(torch::kFloat32).contiguous();
  std::vector<HardTriplet> hardest = HardestOfEachAnchor(distances.data_ptr<float>(), identities);
  std::vector<float> d_ap, d_an;
  d_ap.reserve(hardest.size());
  d_an.reserve(hardest.size());
  for (const HardTriplet& triplet : hardest) {
    d_ap.push_back(triplet.d_ap);
    d_an.push_back(triplet.d_an);
  }
  snapshot.d_ap = ComputeHistogram(d_ap);
  snapshot.d_an = ComputeHistogram(d_an);
  std::stable_sort(hardest.begin(), hardest.end(), [](const HardTriplet& x, const HardTriplet& y) {
    return x.d_ap - x.d_an > y.d_ap - y.d_an;
  });
  hardest.resize(std::min(hardest.size(), triplets));
  snapshot.hardest = std::move(hardest);
  return snapshot;
}

std::vector<std::pair<std::string, Histogram>> InspectWeights(const NamedTensors& parameters) {
  std::vector<std::pair<std::string, Histogram>> result;
  result.reserve(parameters.size());
  for (const auto& [name, tensor] : parameters) result.emplace_back(name, HistogramOf(tensor));
  return result;
}

}  // namespace doppel
