#pragma once

#include <torch/types.h>

#include <functional>
#include <string>
#include <vector>

namespace doppel {

// The same losses as one writes them with tensor operations and autograd (Euclidean, hinge).
struct PlainLoss {
  std::string loss;   // the name that it is held against
  std::string label;  // "plain": a distance matrix, masks, max / min / topk. "indices": pairs and triplets as
                      // index tuples from where(), as pytorch-metric-learning does
  std::function<torch::Tensor(const torch::Tensor& embeddings, const torch::Tensor& labels)> compute;
  bool cubic = false;  // holds B x B x B elements
};
std::vector<PlainLoss> PlainLosses(double margin, int negatives, int samples_per_identity);

}  // namespace doppel
