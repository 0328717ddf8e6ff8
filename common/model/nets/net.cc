#include "common/model/nets/net.h"

namespace doppel {

torch::Tensor ConvBn::operator()(const torch::Tensor& x) {
  if (!fused_weight_.defined()) return bn_(conv_(x));
  const int64_t padding = fused_weight_.size(2) / 2;  // as MakeConv pads
  return at::conv2d(x, fused_weight_, fused_bias_, *conv_->options.stride(), {padding, padding});
}

void ConvBn::Fuse() {
  torch::NoGradGuard no_grad;
  // In double: the fold itself then adds no error to speak of.
  const torch::Tensor scale =
      bn_->weight.to(torch::kFloat64) / (bn_->running_var.to(torch::kFloat64) + bn_->options.eps()).sqrt();
  fused_weight_ = (conv_->weight.to(torch::kFloat64) * scale.view({-1, 1, 1, 1}))
                      .to(conv_->weight.scalar_type())
                      .contiguous(at::MemoryFormat::ChannelsLast);
  fused_bias_ = (bn_->bias.to(torch::kFloat64) - bn_->running_mean.to(torch::kFloat64) * scale)
                    .to(conv_->weight.scalar_type());
}

torch::nn::Conv2d MakeConv(int in, int out, int kernel, int stride) {
  return torch::nn::Conv2d(
      torch::nn::Conv2dOptions(in, out, kernel).stride(stride).padding(kernel / 2).bias(false));
}

}  // namespace doppel
