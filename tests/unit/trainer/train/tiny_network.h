#pragma once

#include <torch/utils.h>

#include "trainer/train/train_step.h"

namespace doppel::train_test {

// A network that is small enough to reason about: one convolution, mean over the image, one linear layer.
class TinyNetwork : public Network {
 public:
  TinyNetwork() {
    spec_.architecture = "tiny";
    spec_.height = spec_.width = 6;
    spec_.channels = 1;
    spec_.dimension = 4;
    spec_.normalize = false;
    torch::manual_seed(7);
    weight_ = torch::randn({8, 1, 3, 3}).requires_grad_(true);
    linear_ = torch::randn({4, 8}).requires_grad_(true);
    seen_ = torch::zeros({1});
  }
  torch::Tensor Forward(const torch::Tensor& images) override {
    if (training) seen_ += images.mean();
    torch::Tensor x = torch::relu(torch::conv2d(images, weight_)).mean({2, 3});
    return torch::linear(x, linear_);
  }
  void Train(bool on) override { training = on; }
  void To(const torch::Device&) override {}
  std::vector<std::pair<std::string, torch::Tensor>> NamedParameters() override {
    return {{"conv.weight", weight_}, {"fc.weight", linear_}};
  }
  std::vector<std::pair<std::string, torch::Tensor>> NamedBuffers() override { return {{"seen", seen_}}; }
  const ModelSpec& spec() const override { return spec_; }
  bool training = false;

 private:
  ModelSpec spec_;
  torch::Tensor weight_, linear_;
  torch::Tensor seen_;  // a running statistic, as batch norms have
};

inline TrainingBatch Batch(uint64_t cursor) {
  TrainingBatch batch;
  batch.cursor = cursor;
  batch.height = batch.width = 6;
  batch.channels = 1;
  for (int64_t i = 0; i < 8; ++i) {
    batch.identities.push_back(i / 2);
    for (int p = 0; p < 36; ++p) {
      batch.pixels.push_back(
          static_cast<uint8_t>((p * (i / 2 + 3) * 17 + static_cast<int>(i + cursor) * 5) % 251));
    }
  }
  return batch;
}

// A step of one batch.
inline StepPart At(double learning_rate, uint64_t steps_done = 0) {
  return {steps_done, learning_rate, 0, 1};
}

}  // namespace doppel::train_test
