#include <array>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/model/nets/net.h"

namespace doppel {
namespace {

// `stage` convolutions with batch norm under torchvision's names convI and bnI.
ConvBn AddConvBn(torch::nn::Module& module, int number, torch::nn::Conv2d conv, int channels) {
  auto c = module.register_module(absl::StrCat("conv", number), std::move(conv));
  auto b = module.register_module(absl::StrCat("bn", number), torch::nn::BatchNorm2d(channels));
  return ConvBn(std::move(c), std::move(b));
}

// torchvision's "downsample": a Sequential of convolution ("0") and norm ("1").
class Shortcut : public torch::nn::Module {
 public:
  Shortcut(int in, int out, int stride) {
    auto conv = register_module("0", MakeConv(in, out, 1, stride));
    auto bn = register_module("1", torch::nn::BatchNorm2d(out));
    layer = ConvBn(std::move(conv), std::move(bn));
  }
  ConvBn layer;
};

// BasicBlock (two 3×3) or Bottleneck (1×1, 3×3 with the stride, 1×1 with four times the channels).
class ResidualBlock : public torch::nn::Module {
 public:
  ResidualBlock(int in, int width, int stride, bool bottleneck) {
    const int out = bottleneck ? 4 * width : width;
    if (bottleneck) {
      layers_.push_back(AddConvBn(*this, 1, MakeConv(in, width, 1, 1), width));
      layers_.push_back(AddConvBn(*this, 2, MakeConv(width, width, 3, stride), width));
      layers_.push_back(AddConvBn(*this, 3, MakeConv(width, out, 1, 1), out));
    } else {
      layers_.push_back(AddConvBn(*this, 1, MakeConv(in, width, 3, stride), width));
      layers_.push_back(AddConvBn(*this, 2, MakeConv(width, width, 3, 1), width));
    }
    if (stride != 1 || in != out) {
      downsample_ = register_module("downsample", std::make_shared<Shortcut>(in, out, stride));
    }
  }

  torch::Tensor Forward(const torch::Tensor& x) {
    torch::Tensor y = x;
    for (size_t i = 0; i + 1 < layers_.size(); ++i) y = layers_[i](y).relu_();
    y = layers_.back()(y);
    y += downsample_ ? downsample_->layer(x) : x;
    return y.relu_();
  }
  void Fuse() {
    for (ConvBn& layer : layers_) layer.Fuse();
    if (downsample_) downsample_->layer.Fuse();
  }

 private:
  std::vector<ConvBn> layers_;
  std::shared_ptr<Shortcut> downsample_;
};

// torchvision's Sequential "layer1" … "layer4".
class Layer : public torch::nn::Module {
 public:
  void Add(std::shared_ptr<ResidualBlock> block) {
    blocks.push_back(register_module(absl::StrCat(blocks.size()), std::move(block)));
  }
  std::vector<std::shared_ptr<ResidualBlock>> blocks;
};

// ResNet (He et al. 2015) with the parameter names of torchvision; `fc` gives the embedding.
class ResNet : public Net {
 public:
  ResNet(const ModelSpec& spec, const std::array<int, 4>& depths, bool bottleneck) {
    stem_ = AddConvBn(*this, 1, MakeConv(spec.channels, 64, 7, 2), 64);
    int in = 64;
    for (int i = 0; i < 4; ++i) {
      auto layer = register_module(absl::StrCat("layer", i + 1), std::make_shared<Layer>());
      const int width = 64 << i;
      for (int j = 0; j < depths[i]; ++j) {
        layer->Add(std::make_shared<ResidualBlock>(in, width, i > 0 && j == 0 ? 2 : 1, bottleneck));
        in = bottleneck ? 4 * width : width;
      }
      layers_.push_back(std::move(layer));
    }
    fc_ = register_module("fc", torch::nn::Linear(in, spec.dimension));
  }

  torch::Tensor Forward(torch::Tensor x) override {
    x = at::max_pool2d(stem_(x).relu_(), 3, 2, 1);
    for (auto& layer : layers_) {
      for (auto& block : layer->blocks) x = block->Forward(x);
    }
    return fc_(x.mean({2, 3}));
  }
  void Fuse() override {
    stem_.Fuse();
    for (auto& layer : layers_) {
      for (auto& block : layer->blocks) block->Fuse();
    }
  }

 private:
  ConvBn stem_;
  std::vector<std::shared_ptr<Layer>> layers_;
  torch::nn::Linear fc_{nullptr};
};

}  // namespace

std::shared_ptr<Net> MakeResNet(const ModelSpec& spec, int depth) {
  constexpr std::array<int, 4> kDepths18 = {2, 2, 2, 2};
  constexpr std::array<int, 4> kDepths34 = {3, 4, 6, 3};
  return std::make_shared<ResNet>(spec, depth == 18 ? kDepths18 : kDepths34, /*bottleneck=*/depth == 50);
}

}  // namespace doppel
