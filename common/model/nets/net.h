#pragma once

// Internal to common/model: what the builtin nets have in common.
#include <torch/nn/module.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include <memory>

#include "common/model/embedding_model.h"

namespace doppel {

// A convolution and the batch norm behind it, both registered in the module that holds the pair. Fuse folds
// the norm into the convolution for inference.
class ConvBn {
 public:
  ConvBn() = default;
  ConvBn(torch::nn::Conv2d conv, torch::nn::BatchNorm2d bn) : conv_(std::move(conv)), bn_(std::move(bn)) {}
  torch::Tensor operator()(const torch::Tensor& x);
  void Fuse();

 private:
  torch::nn::Conv2d conv_{nullptr};
  torch::nn::BatchNorm2d bn_{nullptr};
  torch::Tensor fused_weight_;
  torch::Tensor fused_bias_;
};

// A net from [n, channels, height, width] in channels-last order to [n, D], not normalised.
class Net : public torch::nn::Module {
 public:
  virtual torch::Tensor Forward(torch::Tensor x) = 0;
  // Folds batch norms into convolutions: from then on for inference only, later changes of the weights are
  // not seen. Call it with the net where it shall run. Forward is then thread-safe.
  virtual void Fuse() = 0;
};

// 3×3 (or `kernel`) convolution without bias, padded to keep the size at stride 1.
torch::nn::Conv2d MakeConv(int in, int out, int kernel, int stride);

std::shared_ptr<Net> MakeGlyphCnn(const ModelSpec& spec);
std::shared_ptr<Net> MakeLuNet(const ModelSpec& spec);
// depth: 18, 34 or 50.
std::shared_ptr<Net> MakeResNet(const ModelSpec& spec, int depth);

}  // namespace doppel
