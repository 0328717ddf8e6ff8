#include "common/model/embedding_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <thread>
#include <vector>

#include "common/model/network.h"
#include "tests/unit/common/model/temp_dir.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;

constexpr int kSide = 32;
constexpr int kDimension = 24;

class EmbeddingModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ModelSpec spec;
    spec.architecture = "glyph_cnn";
    spec.height = kSide;
    spec.width = kSide;
    spec.dimension = kDimension;
    auto network = CreateNetwork(spec, 9);
    ASSERT_TRUE(network.ok()) << network.status();
    network_ = std::move(network).value();
    ASSERT_TRUE(SaveNetwork(*network_, 3, temp_ / "m").ok());
    auto model = LoadEmbeddingModel(temp_ / "m", "cpu");
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = std::move(model).value();
    SetComputeThreads(1);
  }

  static std::vector<uint8_t> Images(int n) {
    std::vector<uint8_t> images(static_cast<size_t>(n) * kSide * kSide);
    uint32_t state = 1;
    for (uint8_t& pixel : images) {
      state = state * 1664525 + 1013904223;
      pixel = static_cast<uint8_t>(state >> 24);
    }
    return images;
  }
  static std::vector<float> Embed(EmbeddingModel& model, const std::vector<uint8_t>& images, int n) {
    std::vector<float> out(static_cast<size_t>(n) * kDimension);
    const absl::Status status = model.Embed(images, n, out.data());
    EXPECT_TRUE(status.ok()) << status;
    return out;
  }

  TempDir temp_;
  std::unique_ptr<Network> network_;
  std::unique_ptr<EmbeddingModel> model_;
};

TEST_F(EmbeddingModelTest, AgreesWithTheNetwork) {
  std::vector<uint8_t> images = Images(5);
  const std::vector<float> out = Embed(*model_, images, 5);
  torch::NoGradGuard no_grad;
  network_->Train(false);
  const torch::Tensor bytes = torch::from_blob(images.data(), {5, kSide, kSide, 1}, torch::kUInt8);
  const torch::Tensor expected = network_->Forward(ToInput(network_->spec(), bytes)).contiguous();
  for (size_t i = 0; i < out.size(); ++i) EXPECT_NEAR(out[i], expected.data_ptr<float>()[i], 1e-4);
}

TEST_F(EmbeddingModelTest, RowsHaveUnitLength) {
  const std::vector<float> out = Embed(*model_, Images(4), 4);
  for (int i = 0; i < 4; ++i) {
    double square = 0;
    for (int d = 0; d < kDimension; ++d) square += std::pow(out[i * kDimension + d], 2);
    EXPECT_NEAR(square, 1, 1e-5);
  }
}

TEST_F(EmbeddingModelTest, RepeatsToTheBit) {
  EXPECT_EQ(Embed(*model_, Images(7), 7), Embed(*model_, Images(7), 7));
}

TEST_F(EmbeddingModelTest, ClonesOnOtherThreadsGiveTheSameBits) {
  const std::vector<float> expected = Embed(*model_, Images(6), 6);
  std::vector<std::vector<float>> results(3);
  std::vector<std::thread> threads;
  for (auto& result : results) {
    threads.emplace_back([this, &result] {
      SetComputeThreads(1);
      auto clone = model_->Clone();
      ASSERT_TRUE(clone.ok()) << clone.status();
      for (int i = 0; i < 5; ++i) result = Embed(**clone, Images(6), 6);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : results) EXPECT_EQ(result, expected);
}

TEST_F(EmbeddingModelTest, CloneOutlivesTheOriginal) {
  const std::vector<float> expected = Embed(*model_, Images(2), 2);
  auto clone = model_->Clone();
  ASSERT_TRUE(clone.ok());
  model_.reset();
  EXPECT_EQ(Embed(**clone, Images(2), 2), expected);
  EXPECT_EQ((*clone)->spec().step, 3);
}

TEST_F(EmbeddingModelTest, WrongSizeIsRefused) {
  std::vector<float> out(kDimension);
  const absl::Status status = model_->Embed(std::vector<uint8_t>(100), 1, out.data());
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("32x32x1"));
}

TEST_F(EmbeddingModelTest, NoImagesIsFine) { EXPECT_TRUE(model_->Embed({}, 0, nullptr).ok()); }

TEST_F(EmbeddingModelTest, SpecIsWhatModelJsonSays) {
  const auto spec = ReadModelSpec(temp_ / "m");
  ASSERT_TRUE(spec.ok());
  EXPECT_EQ(model_->spec().fingerprint, spec->fingerprint);
  EXPECT_EQ(model_->spec().dimension, kDimension);
  EXPECT_EQ(spec->fingerprint.size(), 32);
}

TEST_F(EmbeddingModelTest, UnknownDeviceIsRefused) {
  EXPECT_EQ(LoadEmbeddingModel(temp_ / "m", "tpu").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(EmbeddingModelTest, MissingDirectoryIsNotFound) {
  EXPECT_EQ(LoadEmbeddingModel(temp_ / "none", "cpu").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace doppel
