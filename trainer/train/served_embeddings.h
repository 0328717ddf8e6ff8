#pragma once

#include <torch/types.h>

#include <cstddef>

namespace doppel {

// What a batch's embeddings would be if the network were served. In training, batch norms use the statistics
// of the batch itself, so what its images have in common is lost: in batches of look-alikes the cosine to the
// served embeddings is 0.92, in random ones 0.99. The scale and the shift that fit best (least squares) from
// `trained` to `served` at a few rows make up for half of it and more. They are the batch's own: those of the
// batch before are worse than none.
//
// trained: [B, D] of a training step; rows: [R] int64 into it; served: [R, D] of the same images in
// evaluation mode. Returns [B, D] without gradient, of unit length if `normalize`.
torch::Tensor FitToServed(const torch::Tensor& trained, const torch::Tensor& rows,
                          const torch::Tensor& served, bool normalize);

// A batch that was trained on, until its references are embedded.
struct EmbeddedBatch {
  torch::Tensor embeddings;  // [B, D] of the training step, without gradient
  torch::Tensor rows;        // [R] int64; undefined: there is nothing to make up for
  torch::Tensor images;      // [R, height, width, channels] uint8, of these rows
};

// How many batches wait for one another, so that a single pass embeds their references: a pass over a few
// small images costs more for its calls than for their arithmetic.
class ReferencePass {
 public:
  // At most so many batches; fewer if they hold more than 4 Mi pixel values together, for then their steps
  // are long enough to be reported sooner.
  explicit ReferencePass(int batches);
  // A batch of so many values, with references or without. True: the pass is due.
  bool Add(size_t values, bool references);
  // After a pass, due or not.
  void Reset() { batches_ = 0, values_ = 0; }

 private:
  const int most_;
  int batches_ = 0;
  size_t values_ = 0;
};

}  // namespace doppel
