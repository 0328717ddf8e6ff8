#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/model/nets/net.h"

namespace doppel {
namespace {

constexpr double kSlope = 0.3;

torch::Tensor LeakyRelu(const torch::Tensor& x) { return at::leaky_relu(x, kSlope); }
torch::Tensor Pool(const torch::Tensor& x) { return at::max_pool2d(x, 3, 2, 1); }

// A pre-activated residual block (ResNet-v2): norm, leaky ReLU and convolution for each of `sizes`; the
// shortcut is a 1×1 convolution where the number of channels changes.
class LuNetBlock : public torch::nn::Module {
 public:
  LuNetBlock(int in, const std::vector<std::pair<int, int>>& convs) {
    first_bn_ = register_module("bn1", torch::nn::BatchNorm2d(in));
    int from = in;
    for (size_t i = 0; i < convs.size(); ++i) {
      const auto [out, kernel] = convs[i];
      auto conv = register_module(absl::StrCat("conv", i + 1), MakeConv(from, out, kernel, 1));
      if (i + 1 < convs.size()) {
        auto bn = register_module(absl::StrCat("bn", i + 2), torch::nn::BatchNorm2d(out));
        inner_.emplace_back(std::move(conv), std::move(bn));
      } else {
        last_conv_ = std::move(conv);
      }
      from = out;
    }
    if (from != in) shortcut_ = register_module("shortcut", MakeConv(in, from, 1, 1));
  }

  torch::Tensor Forward(const torch::Tensor& x) {
    torch::Tensor y = LeakyRelu(first_bn_(x));
    for (ConvBn& layer : inner_) y = LeakyRelu(layer(y));
    return last_conv_(y) + (shortcut_.is_empty() ? x : shortcut_(x));
  }
  void Fuse() {
    for (ConvBn& layer : inner_) layer.Fuse();
  }

 private:
  torch::nn::BatchNorm2d first_bn_{nullptr};
  std::vector<ConvBn> inner_;
  torch::nn::Conv2d last_conv_{nullptr};
  torch::nn::Conv2d shortcut_{nullptr};
};

// {in, middle, out} of the bottlenecks between the max-poolings.
struct Bottleneck {
  int in;
  int middle;
  int out;
};
const std::vector<std::vector<Bottleneck>>& Groups() {
  static const auto* groups = new std::vector<std::vector<Bottleneck>>{
      {{128, 32, 128}},
      {{128, 32, 128}, {128, 32, 128}, {128, 64, 256}},
      {{256, 64, 256}, {256, 64, 256}},
      {{256, 64, 256}, {256, 64, 256}, {256, 128, 512}},
      {{512, 128, 512}, {512, 128, 512}},
  };
  return *groups;
}

// LuNet of "In Defense of the Triplet Loss" (Hermans, Beyer, Leibe 2017, table 5): a 7×7 convolution,
// bottlenecks with a max-pooling behind each group, a last block that reduces the channels, and two linear
// layers.
class LuNet : public Net {
 public:
  explicit LuNet(const ModelSpec& spec) {
    conv1_ = register_module("conv1", MakeConv(spec.channels, 128, 7, 1));
    int number = 1;
    int height = spec.height;
    int width = spec.width;
    for (const auto& group : Groups()) {
      std::vector<std::shared_ptr<LuNetBlock>> blocks;
      for (const Bottleneck& b : group) {
        const std::vector<std::pair<int, int>> convs = {{b.middle, 1}, {b.middle, 3}, {b.out, 1}};
        blocks.push_back(
            register_module(absl::StrCat("block", number++), std::make_shared<LuNetBlock>(b.in, convs)));
      }
      groups_.push_back(std::move(blocks));
      height = (height + 1) / 2;
      width = (width + 1) / 2;
    }
    const std::vector<std::pair<int, int>> convs = {{512, 3}, {128, 3}};
    reduce_ = register_module(absl::StrCat("block", number), std::make_shared<LuNetBlock>(512, convs));
    fc1_ = register_module("fc1", torch::nn::Linear(int64_t{128} * height * width, 512));
    bn_ = register_module("bn", torch::nn::BatchNorm1d(512));
    fc2_ = register_module("fc2", torch::nn::Linear(512, spec.dimension));
  }

  torch::Tensor Forward(torch::Tensor x) override {
    x = conv1_(x);
    for (auto& group : groups_) {
      for (auto& block : group) x = block->Forward(x);
      x = Pool(x);
    }
    x = reduce_->Forward(x).contiguous().flatten(1);
    return fc2_(LeakyRelu(bn_(fc1_(x))));
  }
  void Fuse() override {
    for (auto& group : groups_) {
      for (auto& block : group) block->Fuse();
    }
    reduce_->Fuse();
  }

 private:
  torch::nn::Conv2d conv1_{nullptr};
  std::vector<std::vector<std::shared_ptr<LuNetBlock>>> groups_;
  std::shared_ptr<LuNetBlock> reduce_;
  torch::nn::Linear fc1_{nullptr};
  torch::nn::BatchNorm1d bn_{nullptr};
  torch::nn::Linear fc2_{nullptr};
};

}  // namespace

std::shared_ptr<Net> MakeLuNet(const ModelSpec& spec) { return std::make_shared<LuNet>(spec); }

}  // namespace doppel
