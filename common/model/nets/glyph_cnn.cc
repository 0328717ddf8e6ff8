#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/model/nets/net.h"

namespace doppel {
namespace {

struct Stage {
  int channels;
  int stride;
};
// 48×48 → 24 → 12 → 6 → 6 → 3. Most of the arithmetic is at 6×6, where 96 channels fill the vector units.
constexpr Stage kStages[] = {{24, 2}, {48, 2}, {96, 2}, {96, 1}, {192, 2}};

// Five 3×3 convolutions with batch norm and ReLU, and one linear layer over the flattened map: where a stroke
// lies tells one glyph from another, so positions are not averaged away.
class GlyphCnn : public Net {
 public:
  explicit GlyphCnn(const ModelSpec& spec) {
    int in = spec.channels;
    int height = spec.height;
    int width = spec.width;
    int number = 1;
    for (const Stage& stage : kStages) {
      auto conv =
          register_module(absl::StrCat("conv", number), MakeConv(in, stage.channels, 3, stage.stride));
      auto bn = register_module(absl::StrCat("bn", number), torch::nn::BatchNorm2d(stage.channels));
      layers_.emplace_back(std::move(conv), std::move(bn));
      in = stage.channels;
      height = (height + stage.stride - 1) / stage.stride;
      width = (width + stage.stride - 1) / stage.stride;
      ++number;
    }
    fc_ = register_module("fc", torch::nn::Linear(int64_t{in} * height * width, spec.dimension));
  }

  torch::Tensor Forward(torch::Tensor x) override {
    for (ConvBn& layer : layers_) x = layer(x).relu_();
    return fc_(x.contiguous().flatten(1));
  }
  void Fuse() override {
    for (ConvBn& layer : layers_) layer.Fuse();
  }

 private:
  std::vector<ConvBn> layers_;
  torch::nn::Linear fc_{nullptr};
};

}  // namespace

std::shared_ptr<Net> MakeGlyphCnn(const ModelSpec& spec) { return std::make_shared<GlyphCnn>(spec); }

}  // namespace doppel
