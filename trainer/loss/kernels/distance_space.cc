#include "trainer/loss/kernels/distance_space.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "trainer/loss/kernels/row_kernels.h"

namespace doppel {
namespace {

// Rows per matrix product: enough for sgemm, few enough that a block stays in the cache while it is used.
constexpr int64_t kBlockRows = 128;
// A pair is close below this share of |z_a|² + |z_j|²: above it, rounding in the Gram matrix moves a distance
// by 1e-5 of itself at most.
constexpr float kCloseShare = 1.0F / 64;
constexpr double kEpsilonSquare = 1e-12;

std::vector<float> RowSquares(const torch::Tensor& x) {
  const torch::Tensor squares = x.square().sum(1).contiguous();
  return {squares.data_ptr<float>(), squares.data_ptr<float>() + squares.numel()};
}

}  // namespace

absl::StatusOr<DistanceSpace> DistanceSpace::Create(const torch::Tensor& embeddings,
                                                    const torch::Tensor& memory, Distance distance) {
  torch::NoGradGuard no_grad;
  DistanceSpace space;
  space.distance_ = distance;
  torch::Tensor x = embeddings.detach();
  space.rows_ = x.size(0);
  space.dimension_ = x.size(1);
  if (memory.defined()) x = at::cat({x, memory.detach()});
  space.columns_ = x.size(0);
  space.norms_ = RowSquares(x);
  for (const float square : space.norms_) {
    if (!std::isfinite(square)) {
      return absl::InvalidArgumentError(
          "an embedding is so long that its squared norm overflows: the training has diverged (lower the "
          "learning rate, warm up, or clip gradients)");
    }
  }
  if (distance == Distance::kCosine) {
    space.slack_.reserve(space.norms_.size());
    torch::Tensor inverse = at::empty({space.columns_, 1}, x.options());
    for (int64_t i = 0; i < space.columns_; ++i) {
      const double square = static_cast<double>(space.norms_[i]) + kEpsilonSquare;
      inverse.data_ptr<float>()[i] = static_cast<float>(1.0 / std::sqrt(square));
      space.slack_.push_back(static_cast<float>(0.5 * kEpsilonSquare / square));
    }
    x = x * inverse;
    space.unit_ = x.slice(0, 0, space.rows_);
  }
  for (float& norm : space.norms_) norm = std::sqrt(norm + static_cast<float>(kEpsilonSquare));
  space.z_ = (x - x.slice(0, 0, space.rows_).mean(0, /*keepdim=*/true)).contiguous();
  space.centred_ = space.z_.data_ptr<float>();
  space.squares_ = RowSquares(space.z_);
  return space;
}

float DistanceSpace::Exact(int64_t row, int64_t column) const {
  const float square = BestRowKernels().squared_difference(Centred(row), Centred(column), dimension_);
  switch (distance_) {
    case Distance::kEuclidean:
      return std::sqrt(square + static_cast<float>(kEpsilonSquare));
    case Distance::kSquaredEuclidean:
      return square;
    case Distance::kCosine:
      return 0.5F * square + (slack_[row] + slack_[column]);
  }
  return square;
}

void DistanceSpace::FinishRow(int64_t a, float* row, std::vector<std::pair<int32_t, int32_t>>* close) const {
  const RowKernels& kernels = BestRowKernels();
  const int64_t found = kernels.to_squares(row, squares_[a], squares_.data(), kCloseShare, columns_);
  row[a] = 0;
  if (found > 1) {  // more than the row itself
    for (int64_t j = 0; j < columns_; ++j) {
      if (j == a || !(row[j] <= kCloseShare * (squares_[a] + squares_[j]))) continue;
      row[j] = kernels.squared_difference(Centred(a), Centred(j), dimension_);
      if (close != nullptr) close->emplace_back(static_cast<int32_t>(a), static_cast<int32_t>(j));
    }
  }
  if (distance_ == Distance::kEuclidean) kernels.to_euclidean(row, columns_);
  if (distance_ == Distance::kCosine) kernels.to_cosine(row, slack_[a], slack_.data(), columns_);
}

torch::Tensor DistanceSpace::ForEachRow(const std::function<void(int64_t, float*)>& visit, int64_t most,
                                        std::vector<std::pair<int32_t, int32_t>>* close) const {
  torch::NoGradGuard no_grad;
  const RowKernels& kernels = BestRowKernels();
  const bool whole = rows_ * columns_ <= most;
  const torch::Tensor matrix =
      at::empty({whole ? rows_ : std::min(rows_, kBlockRows), columns_}, z_.options());
  for (int64_t begin = 0; begin < rows_; begin += kBlockRows) {
    const int64_t end = std::min(rows_, begin + kBlockRows);
    torch::Tensor block = matrix.slice(0, whole ? begin : 0, whole ? end : end - begin);
    // Of a whole matrix what lies left of the diagonal block has come from the blocks above.
    const int64_t left = whole ? begin : 0;
    block.slice(1, left).addmm_(z_.slice(0, begin, end), z_.slice(0, left).t(), /*beta=*/0, /*alpha=*/-2);
    float* const values = block.data_ptr<float>();
    if (whole) {
      kernels.transpose(values + end, columns_, values + (end - begin) * columns_ + begin, columns_,
                        end - begin, rows_ - end);
    }
    for (int64_t a = begin; a < end; ++a) {
      float* const row = values + (a - begin) * columns_;
      FinishRow(a, row, close);
      visit(a, row);
    }
  }
  return whole ? matrix : torch::Tensor();
}

PairGradient::PairGradient(const DistanceSpace& space)
    : space_(space),
      gradient_(at::zeros({space.rows_, space.dimension_}, at::kFloat)),
      values_(gradient_.data_ptr<float>()) {
  if (space.distance_ == Distance::kCosine) total_.assign(space.rows_, 0);
}

void PairGradient::AddFactor(int64_t row, int64_t column, double factor) {
  const int64_t n = space_.dimension_;
  const bool in_batch = column < space_.rows_;
  if (!total_.empty()) {
    total_[row] += factor;
    if (in_batch) total_[column] += factor;
  }
  BestRowKernels().add_difference(space_.Centred(row), space_.Centred(column), static_cast<float>(factor),
                                  values_ + row * n, in_batch ? values_ + column * n : nullptr, n);
}

void PairGradient::SubtractAll(const torch::Tensor& factors) {
  torch::NoGradGuard no_grad;
  const RowKernels& kernels = BestRowKernels();
  const int64_t n = space_.rows_, stride = space_.columns_;
  float* const f = factors.data_ptr<float>();
  for (int64_t i = 0; i < n; i += kBlockRows) {
    const int64_t rows = std::min(kBlockRows, n - i);
    kernels.add_transpose(f + i * stride + i, f + i * stride + i, stride, rows, rows);
    for (int64_t j = i + rows; j < n; j += kBlockRows) {
      kernels.add_transpose(f + i * stride + j, f + j * stride + i, stride, rows,
                            std::min(kBlockRows, n - j));
    }
  }
  // Σ_j f_aj (z_a - z_j) = (Σ_j f_aj) z_a - Σ_j f_aj z_j, negated.
  gradient_.addmm_(factors, space_.z_);
  const torch::Tensor sums = factors.sum(1, /*keepdim=*/true);
  gradient_.addcmul_(sums, space_.z_.slice(0, 0, n), -1);
  for (int64_t a = 0; a < static_cast<int64_t>(total_.size()); ++a) total_[a] -= sums.data_ptr<float>()[a];
}

torch::Tensor PairGradient::Finish(double scale) {
  torch::NoGradGuard no_grad;
  if (space_.distance_ == Distance::kCosine) {
    // u = x / sqrt(|x|² + e): dx = (g - u (u·g)) / sqrt(…), where g also holds what lies along u.
    const torch::Tensor& u = space_.unit_;
    torch::Tensor factors = at::empty({2, space_.rows_, 1}, at::kFloat);
    float* const along = factors.data_ptr<float>();
    float* const inverse = along + space_.rows_;
    for (int64_t a = 0; a < space_.rows_; ++a) {
      along[a] = static_cast<float>(-2 * total_[a] * space_.slack_[a]);
      inverse[a] = static_cast<float>(scale / space_.norms_[a]);
    }
    gradient_.addcmul_(u, factors[0] - (u * gradient_).sum(1, /*keepdim=*/true));
    return gradient_.mul_(factors[1]);
  }
  return gradient_.mul_(scale);
}

}  // namespace doppel
