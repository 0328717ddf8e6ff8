#include "trainer/loss/kernels/batch_geometry.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "common/base/status_macros.h"
#include "trainer/loss/dense_distances.h"

namespace doppel {
namespace {

// Above, rows come in blocks: 256 MiB.
constexpr int64_t kLargestMatrix = int64_t{1} << 26;
// Without kernels: elements of a block of distances, rows of a block of pairs.
constexpr int64_t kTensorBlock = int64_t{1} << 22;

torch::Tensor HostIndices(const std::vector<int64_t>& values, int64_t begin, int64_t size) {
  // from_blob wants a mutable pointer; nothing writes through it.
  return at::from_blob(const_cast<int64_t*>(values.data() + begin), {size}, at::kLong);
}

}  // namespace

absl::StatusOr<BatchGeometry> BatchGeometry::Create(const LossInput& input, Distance distance) {
  BatchGeometry geometry;
  geometry.distance_ = distance;
  geometry.embeddings_ = input.embeddings;
  if (geometry.embeddings_.scalar_type() != at::kDouble) {
    geometry.embeddings_ = geometry.embeddings_.to(at::kFloat);
  }
  if (input.memory.defined() && input.memory.size(0) > 0) {
    geometry.memory_ = input.memory.detach().to(geometry.embeddings_.options());
  }
  torch::NoGradGuard no_grad;
  if (geometry.embeddings_.is_cpu() && geometry.embeddings_.scalar_type() == at::kFloat) {
    ASSIGN_OR_RETURN(geometry.space_,
                     DistanceSpace::Create(geometry.embeddings_, geometry.memory_, distance));
    geometry.norms_ = geometry.space_->norms();
    return geometry;
  }
  const torch::Tensor norms =
      (geometry.Columns().square().sum(1) + 1e-12).sqrt().to(at::kCPU, at::kFloat).contiguous();
  geometry.norms_.assign(norms.data_ptr<float>(), norms.data_ptr<float>() + norms.numel());
  return geometry;
}

torch::Tensor BatchGeometry::Columns() const {
  return memory_.defined() ? at::cat({embeddings_, memory_}) : embeddings_;
}

void BatchGeometry::ForEachRow(const std::function<void(int64_t, float*)>& visit) const {
  if (space_.has_value()) {
    space_->ForEachRow(visit, kLargestMatrix, nullptr);
    return;
  }
  torch::NoGradGuard no_grad;
  const torch::Tensor rows = embeddings_.detach(), columns = Columns().detach();
  const int64_t block = std::max<int64_t>(kTensorBlock / columns.size(0), 1);
  for (int64_t begin = 0; begin < rows.size(0); begin += block) {
    const int64_t end = std::min(rows.size(0), begin + block);
    torch::Tensor distances =
        ExactDistances(rows.slice(0, begin, end), columns, distance_).to(at::kCPU, at::kFloat).contiguous();
    for (int64_t a = begin; a < end; ++a) {
      visit(a, distances.data_ptr<float>() + (a - begin) * columns.size(0));
    }
  }
}

std::vector<double> BatchGeometry::PairsOf(const std::vector<int64_t>& anchors,
                                           const std::vector<int64_t>& columns) const {
  std::vector<double> distances;
  distances.reserve(anchors.size());
  if (space_.has_value()) {
    for (size_t i = 0; i < anchors.size(); ++i) distances.push_back(space_->Exact(anchors[i], columns[i]));
    return distances;
  }
  torch::NoGradGuard no_grad;
  const torch::Tensor rows = Columns().detach();
  const int64_t pairs = static_cast<int64_t>(anchors.size());
  const int64_t block = std::max<int64_t>(kTensorBlock / rows.size(1), 1);
  for (int64_t begin = 0; begin < pairs; begin += block) {
    const int64_t n = std::min(block, pairs - begin);
    const torch::Tensor part = PairDistances(rows, HostIndices(anchors, begin, n).to(rows.device()),
                                             HostIndices(columns, begin, n).to(rows.device()), distance_)
                                   .to(at::kCPU, at::kDouble)
                                   .contiguous();
    distances.insert(distances.end(), part.data_ptr<double>(), part.data_ptr<double>() + n);
  }
  return distances;
}

torch::Tensor BatchGeometry::Loss(double value, std::initializer_list<PairSlopes> pairs) const {
  if (space_.has_value()) {
    torch::Tensor scalar = at::scalar_tensor(value, embeddings_.options().requires_grad(false));
    if (!embeddings_.requires_grad() || !at::GradMode::is_enabled()) return scalar;
    PairGradient gradient(*space_);
    for (const PairSlopes& part : pairs) {
      for (size_t i = 0; i < part.slopes.size(); ++i) {
        if (part.slopes[i] == 0) continue;
        gradient.Add(part.anchors[i], part.columns[i], part.distances[i], part.slopes[i]);
      }
    }
    return WithGradient(embeddings_, scalar, gradient.Finish(1));
  }
  const torch::Tensor rows = Columns();
  torch::Tensor sum = rows.sum() * 0;  // keeps a loss without pairs in the graph
  for (const PairSlopes& part : pairs) {
    const int64_t n = static_cast<int64_t>(part.slopes.size());
    if (n == 0) continue;
    const torch::Tensor distances =
        PairDistances(rows, HostIndices(part.anchors, 0, n).to(rows.device(), at::kLong, false, true),
                      HostIndices(part.columns, 0, n).to(rows.device(), at::kLong, false, true), distance_);
    const torch::Tensor slopes = at::from_blob(const_cast<double*>(part.slopes.data()), {n}, at::kDouble)
                                     .to(rows.options().requires_grad(false), false, true);
    sum = sum + (distances * slopes).sum();
  }
  return sum - sum.detach() + value;
}

}  // namespace doppel
