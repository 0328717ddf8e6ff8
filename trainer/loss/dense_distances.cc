#include "trainer/loss/dense_distances.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

namespace doppel {
namespace {

constexpr double kDistanceEpsilon = 1e-12;
// Elements of a block of differences.
constexpr int64_t kRefineBlock = int64_t{1} << 22;

// Squared distance as a share of the squared norms, below which a pair is computed from its difference: what
// remains loses at most about two digits (float32) or four (float64).
double CloseShare(torch::ScalarType type) { return type == torch::kFloat64 ? 1e-4 : 1e-2; }

class PrecomputedGradient : public torch::autograd::Function<PrecomputedGradient> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& embeddings,
                               const torch::Tensor& value, const torch::Tensor& gradient) {
    context->save_for_backward({gradient});
    return value.clone();
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& from_above) {
    return {context->get_saved_variables()[0] * from_above[0], torch::Tensor(), torch::Tensor()};
  }
};

torch::Tensor SquaredLengths(const torch::Tensor& x) { return x.square().sum(1, /*keepdim=*/true); }

}  // namespace

DenseDistances::DenseDistances(const torch::Tensor& embeddings, const torch::Tensor& memory,
                               Distance distance)
    : distance_(distance) {
  at::NoGradGuard no_grad;
  exact_ = embeddings.detach();
  if (memory.defined() && memory.size(0) > 0) memory_ = memory.detach();
  if (distance_ == Distance::kCosine) {
    inverse_norms_ = (SquaredLengths(exact_) + kDistanceEpsilon).rsqrt();
    rows_ = exact_ * inverse_norms_;
    if (memory_.defined()) columns_ = memory_ * (SquaredLengths(memory_) + kDistanceEpsilon).rsqrt();
    values_ = 1.0 - rows_.mm((memory_.defined() ? at::cat({rows_, columns_}) : rows_).t());
    values_.fill_diagonal_(0);
    return;
  }
  // Distances do not know where the origin is, but rounding does.
  const torch::Tensor mean = exact_.mean(0, /*keepdim=*/true);
  rows_ = exact_ - mean;
  if (memory_.defined()) columns_ = memory_ - mean;
  const torch::Tensor others = memory_.defined() ? at::cat({rows_, columns_}) : rows_;
  const torch::Tensor scale = SquaredLengths(rows_) + SquaredLengths(others).t();
  values_ = at::addmm(scale, rows_, others.t(), 1, -2).clamp_min_(0);
  torch::Tensor is_close = values_ <= scale * CloseShare(exact_.scalar_type());
  is_close.fill_diagonal_(false);
  close_ = is_close.flatten().nonzero().squeeze(1);
  Refine();
  values_.fill_diagonal_(0);
  if (distance_ == Distance::kEuclidean) values_.add_(kDistanceEpsilon).sqrt_();
}

void DenseDistances::Refine() {
  const int64_t width = values_.size(1), batch = exact_.size(0);
  const torch::Tensor others = memory_.defined() ? at::cat({exact_, memory_}) : exact_;
  const int64_t block = std::max<int64_t>(kRefineBlock / std::max<int64_t>(exact_.size(1), 1), 1);
  for (int64_t begin = 0; begin < close_.size(0); begin += block) {
    const torch::Tensor at = close_.narrow(0, begin, std::min(block, close_.size(0) - begin));
    const torch::Tensor row = at.div(width, "floor"), column = at.remainder(width);
    const torch::Tensor difference = exact_.index_select(0, row) - others.index_select(0, column);
    values_.view({batch * width}).index_copy_(0, at, difference.square().sum(1));
  }
}

torch::Tensor DenseDistances::CosineGradient(const torch::Tensor& symmetric,
                                             const torch::Tensor& slopes) const {
  torch::Tensor by_unit = symmetric.mm(rows_);
  if (memory_.defined()) by_unit.addmm_(slopes.narrow(1, exact_.size(0), memory_.size(0)), columns_);
  // d = 1 - u_i u_j, u = x r: the part along u changes nothing.
  return (by_unit - rows_ * (rows_ * by_unit).sum(1, /*keepdim=*/true)) * -inverse_norms_;
}

torch::Tensor DenseDistances::Gradient(const torch::Tensor& slopes) const {
  at::NoGradGuard no_grad;
  const int64_t batch = exact_.size(0), width = values_.size(1);
  torch::Tensor weights;  // d loss / d squared distance, times 2
  if (distance_ == Distance::kCosine) {
    weights = slopes.clone();
  } else {
    weights = distance_ == Distance::kEuclidean ? slopes / values_ : slopes * 2;
  }
  weights.fill_diagonal_(0);
  const torch::Tensor close_weights =
      close_.defined() ? weights.view({batch * width}).index_select(0, close_) : torch::Tensor();
  if (close_.defined()) weights.view({batch * width}).index_fill_(0, close_, 0);
  const torch::Tensor own = weights.narrow(1, 0, batch);
  const torch::Tensor symmetric = own + own.t();
  if (distance_ == Distance::kCosine) return CosineGradient(symmetric, weights);

  torch::Tensor gradient = rows_ * symmetric.sum(1, /*keepdim=*/true) - symmetric.mm(rows_);
  if (memory_.defined()) {
    const torch::Tensor far = weights.narrow(1, batch, memory_.size(0));
    gradient += rows_ * far.sum(1, /*keepdim=*/true) - far.mm(columns_);
  }
  const torch::Tensor others = memory_.defined() ? at::cat({exact_, memory_}) : exact_;
  const int64_t block = std::max<int64_t>(kRefineBlock / std::max<int64_t>(exact_.size(1), 1), 1);
  for (int64_t begin = 0; begin < close_.size(0); begin += block) {
    const int64_t n = std::min(block, close_.size(0) - begin);
    const torch::Tensor at = close_.narrow(0, begin, n);
    const torch::Tensor row = at.div(width, "floor"), column = at.remainder(width);
    const torch::Tensor pull = (exact_.index_select(0, row) - others.index_select(0, column)) *
                               close_weights.narrow(0, begin, n).unsqueeze(1);
    gradient.index_add_(0, row, pull);
    const torch::Tensor in_batch = (column < batch).nonzero().squeeze(1);
    gradient.index_add_(0, column.index_select(0, in_batch), -pull.index_select(0, in_batch));
  }
  return gradient;
}

torch::Tensor WithGradient(const torch::Tensor& embeddings, const torch::Tensor& value,
                           const torch::Tensor& gradient) {
  return PrecomputedGradient::apply(embeddings, value, gradient);
}

}  // namespace doppel
