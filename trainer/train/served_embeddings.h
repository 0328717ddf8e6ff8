#pragma once

#include <torch/types.h>

namespace doppel {

// What a batch's embeddings would be if the network were served. In training, batch norms use the statistics
// of the batch itself, so what its images have in common is lost: in batches of look-alikes the cosine to the
// served embeddings is 0.85, in random ones 0.99. The scale and the shift that fit best (least squares) from
// `trained` to `served` at a few rows make up for most of it.
//
// trained: [B, D] of a training step; rows: [R] int64 into it; served: [R, D] of the same images in
// evaluation mode. Returns [B, D] without gradient, of unit length if `normalize`.
torch::Tensor FitToServed(const torch::Tensor& trained, const torch::Tensor& rows,
                          const torch::Tensor& served, bool normalize);

}  // namespace doppel
