#include "trainer/train/served_embeddings.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace doppel {

torch::Tensor FitToServed(const torch::Tensor& trained, const torch::Tensor& rows,
                          const torch::Tensor& served, bool normalize) {
  const c10::AutoGradMode no_grad(false);
  const torch::Tensor known = trained.index_select(0, rows);
  const torch::Tensor from = known.mean(0, /*keepdim=*/true);
  const torch::Tensor to = served.mean(0, /*keepdim=*/true);
  const torch::Tensor centred = known - from;
  const double spread = (centred * centred).sum().item<double>();
  double scale = spread > 1e-12 ? (centred * (served - to)).sum().item<double>() / spread : 1;
  // One row, or rows all alike, say nothing of the scale; a negative one would be noise.
  if (!(scale > 0)) scale = 1;
  torch::Tensor fitted = (trained - from) * scale + to;
  if (normalize) fitted = fitted / fitted.norm(2, {1}, /*keepdim=*/true).clamp_min(1e-12);
  return fitted;
}

}  // namespace doppel
