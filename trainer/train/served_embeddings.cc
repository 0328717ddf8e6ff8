#include "trainer/train/served_embeddings.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

namespace doppel {
namespace {

// Beyond that there is little left to share, and reports would only be late.
constexpr int kMostBatches = 8;
constexpr size_t kMostValues = size_t{4} << 20;

}  // namespace

torch::Tensor FitToServed(const torch::Tensor& trained, const torch::Tensor& rows,
                          const torch::Tensor& served, bool normalize) {
  const c10::AutoGradMode no_grad(false);
  const torch::Tensor known = trained.index_select(0, rows);
  const torch::Tensor from = known.mean(0, /*keepdim=*/true);
  const torch::Tensor to = served.mean(0, /*keepdim=*/true);
  const torch::Tensor centred = known.sub(from);
  const double spread = (centred * centred).sum().item<double>();
  double scale = spread > 1e-12 ? (centred * (served - to)).sum().item<double>() / spread : 1;
  // One row, or rows all alike, say nothing of the scale; a negative one would be noise.
  if (!(scale > 0)) scale = 1;
  torch::Tensor fitted = at::add(at::sub(to, from, scale), trained, scale);
  if (normalize) fitted.div_(fitted.norm(2, {1}, /*keepdim=*/true).clamp_min_(1e-12));
  return fitted;
}

ReferencePass::ReferencePass(int batches) : most_(std::clamp(batches, 1, kMostBatches)) {}

bool ReferencePass::Add(size_t values, bool references) {
  ++batches_;
  values_ += values;
  return !references || batches_ >= most_ || values_ >= kMostValues;
}

}  // namespace doppel
