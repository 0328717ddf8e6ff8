#include "trainer/train/train_step.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/utils.h>

#include "tests/unit/trainer/train/tiny_network.h"
#include "trainer/loss/loss_factory.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;
using train_test::At;
using train_test::Batch;
using train_test::TinyNetwork;

class TrainStepTest : public ::testing::Test {
 protected:
  void Make(const std::string& name, double clip = 0) {
    LossOptions options;
    options.name = name;
    options.margin = "soft";
    options.classes = 4;
    options.dimension = 4;
    loss_ = MakeLoss(options).value();
    UseChannelsLast(network_);
    optimizer_ = Optimizer::Create(TrainableParameters(network_, *loss_), {}).value();
    TrainStepOptions step;
    step.clip_norm = clip;
    step_ = std::make_unique<TrainStep>(network_, *loss_, *optimizer_, step);
  }
  TinyNetwork network_;
  std::unique_ptr<Loss> loss_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<TrainStep> step_;
};

TEST_F(TrainStepTest, TrainingLowersTheLossOfEveryKind) {
  for (const std::string name : {"batch_hard", "batch_ohnm", "id_softmax"}) {
    Make(name);
    const auto first = step_->Run(Batch(0), At(0.01));
    ASSERT_TRUE(first.ok()) << first.status();
    EXPECT_GT(first->grad_norm, 0);
    double last = 0;
    for (int i = 0; i < 60; ++i) last = step_->Run(Batch(0), At(0.01))->loss.loss;
    EXPECT_LT(last, first->loss.loss) << name;
    network_ = TinyNetwork();
  }
}

TEST_F(TrainStepTest, SwitchesTheNetworkToTraining) {
  Make("batch_hard");
  ASSERT_TRUE(step_->Run(Batch(0), At(0.01)).ok());
  EXPECT_TRUE(network_.training);
}

TEST_F(TrainStepTest, SameStartGivesTheSameLossesBitForBit) {
  std::vector<double> losses;
  for (int run = 0; run < 2; ++run) {
    network_ = TinyNetwork();
    Make("batch_ohnm", 1.0);
    for (uint64_t i = 0; i < 10; ++i) losses.push_back(step_->Run(Batch(i), At(0.01))->loss.loss);
  }
  for (size_t i = 0; i < 10; ++i) EXPECT_EQ(losses[i], losses[i + 10]);
}

TEST_F(TrainStepTest, ParametersCarryTheirOwnersName) {
  Make("id_softmax");
  std::vector<std::string> names;
  for (const auto& [name, tensor] : TrainableParameters(network_, *loss_)) names.push_back(name);
  EXPECT_THAT(names, ::testing::ElementsAre("network.conv.weight", "network.fc.weight", "loss.weight"));
}

TEST_F(TrainStepTest, ImagesOfAnotherSizeAreAnError) {
  Make("batch_hard");
  TrainingBatch batch = Batch(0);
  batch.width = 5;
  EXPECT_THAT(step_->Run(batch, At(0.01)).status().ToString(), HasSubstr("6x5x1, the network takes 6x6x1"));
}

TEST_F(TrainStepTest, MissingPixelsAreAnError) {
  Make("batch_hard");
  TrainingBatch batch = Batch(0);
  batch.pixels.pop_back();
  EXPECT_EQ(step_->Run(batch, At(0.01)).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(step_->Run(TrainingBatch{}, At(0.01)).ok());
}

TEST_F(TrainStepTest, ADivergedNetworkIsAnErrorAndParametersStay) {
  Make("batch_hard");
  {
    torch::NoGradGuard no_grad;
    network_.NamedParameters()[1].second.fill_(NAN);
  }
  const torch::Tensor before = network_.NamedParameters()[0].second.detach().clone();
  EXPECT_THAT(step_->Run(Batch(0), At(0.01)).status().ToString(), HasSubstr("diverged"));
  EXPECT_TRUE(before.equal(network_.NamedParameters()[0].second));
}

TEST_F(TrainStepTest, ExceptionsOfTheNetworkBecomeErrors) {
  class Broken : public TinyNetwork {
    torch::Tensor Forward(const torch::Tensor& images) override { return images.reshape({-1, 7}); }
  } broken;
  Make("batch_hard");
  TrainStep step(broken, *loss_, *optimizer_, {});
  EXPECT_EQ(step.Run(Batch(0), At(0.01)).status().code(), absl::StatusCode::kInternal);
}

}  // namespace
}  // namespace doppel
