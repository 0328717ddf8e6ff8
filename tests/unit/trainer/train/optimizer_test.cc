#include "trainer/train/optimizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

namespace doppel {
namespace {

using ::testing::HasSubstr;

NamedTensors Parameters() {
  return {{"a", torch::linspace(-1, 1, 12).reshape({3, 4}).clone().requires_grad_(true)},
          {"unused", torch::ones({2}).requires_grad_(true)}};
}

void Steps(NamedTensors& parameters, Optimizer& optimizer, int from, int to) {
  for (int i = from; i < to; ++i) {
    optimizer.ZeroGrad();
    ((parameters[0].second - 0.1 * i).pow(4).sum() * 3).backward();
    optimizer.GradNormAndClip(2.0);
    optimizer.Step(0.01 * (1 + i % 3));
  }
}

class OptimizerTest : public ::testing::TestWithParam<const char*> {
 protected:
  OptimizerOptions Options() {
    OptimizerOptions options;
    options.name = GetParam();
    options.weight_decay = 1e-3;
    return options;
  }
};

TEST_P(OptimizerTest, StateRoundTripsBitForBit) {
  NamedTensors straight = Parameters();
  auto one = Optimizer::Create(straight, Options()).value();
  Steps(straight, *one, 0, 20);

  NamedTensors first = Parameters();
  auto two = Optimizer::Create(first, Options()).value();
  Steps(first, *two, 0, 9);
  NamedTensors second = {{"a", first[0].second.detach().clone().requires_grad_(true)}, first[1]};
  auto three = Optimizer::Create(second, Options()).value();
  ASSERT_TRUE(three->LoadState(two->State()).ok());
  Steps(second, *three, 9, 20);
  EXPECT_TRUE(straight[0].second.equal(second[0].second));
}

TEST_P(OptimizerTest, StateOfOtherParametersIsRefused) {
  NamedTensors parameters = Parameters();
  auto optimizer = Optimizer::Create(parameters, Options()).value();
  Steps(parameters, *optimizer, 0, 1);
  const NamedTensors state = optimizer->State();
  auto renamed = Optimizer::Create({{"b", torch::ones({3, 4}).requires_grad_(true)}}, Options()).value();
  EXPECT_EQ(renamed->LoadState(state).code(), absl::StatusCode::kFailedPrecondition);
  auto reshaped = Optimizer::Create({{"a", torch::ones({4, 4}).requires_grad_(true)}}, Options()).value();
  EXPECT_THAT(reshaped->LoadState(state).ToString(), HasSubstr("parameter a"));
}

INSTANTIATE_TEST_SUITE_P(Both, OptimizerTest, ::testing::Values("adam", "sgd"));

TEST(OptimizerKindTest, StateOfTheOtherKindIsRefused) {
  NamedTensors parameters = Parameters();
  OptimizerOptions options;
  auto adam = Optimizer::Create(parameters, options).value();
  Steps(parameters, *adam, 0, 1);
  options.name = "sgd";
  EXPECT_FALSE(Optimizer::Create(parameters, options).value()->LoadState(adam->State()).ok());
}

TEST(OptimizerKindTest, AdamsFirstStepIsTheLearningRateInEveryCoordinate) {
  NamedTensors parameters = {{"a", torch::zeros({3}).requires_grad_(true)}};
  auto adam = Optimizer::Create(parameters, {}).value();
  (parameters[0].second * torch::tensor({1.0F, -2.0F, 30.0F})).sum().backward();
  adam->Step(0.5);
  EXPECT_TRUE(torch::allclose(parameters[0].second, torch::tensor({-0.5F, 0.5F, -0.5F}), 1e-5));
}

TEST(OptimizerKindTest, SgdFollowsItsFormula) {
  NamedTensors parameters = {{"a", torch::ones({1}).requires_grad_(true)}};
  OptimizerOptions options;
  options.name = "sgd";
  options.momentum = 0.5;
  options.weight_decay = 0.1;
  auto sgd = Optimizer::Create(parameters, options).value();
  double x = 1, buffer = 0;
  for (int i = 0; i < 4; ++i) {
    sgd->ZeroGrad();
    (parameters[0].second.square()).sum().backward();
    sgd->Step(0.1);
    const double gradient = 2 * x + 0.1 * x;
    buffer = i == 0 ? gradient : 0.5 * buffer + gradient;
    x -= 0.1 * buffer;
    EXPECT_NEAR(parameters[0].second.item<double>(), x, 1e-6);
  }
}

TEST(OptimizerKindTest, ClippingScalesToTheNormAndReportsTheNormBefore) {
  NamedTensors parameters = {{"a", torch::zeros({2}).requires_grad_(true)},
                             {"b", torch::zeros({1}).requires_grad_(true)}};
  auto adam = Optimizer::Create(parameters, {}).value();
  (parameters[0].second * 2).sum().backward();
  parameters[1].second.sum().backward();
  EXPECT_NEAR(adam->GradNormAndClip(0), 3, 1e-6);
  EXPECT_NEAR(adam->GradNormAndClip(10), 3, 1e-6);
  EXPECT_NEAR(adam->GradNormAndClip(1.5), 3, 1e-6);
  EXPECT_NEAR(adam->GradNormAndClip(0), 1.5, 1e-6);
  EXPECT_TRUE(torch::allclose(parameters[0].second.grad(), torch::ones({2})));
}

TEST(OptimizerKindTest, WrongSettingsAreRefused) {
  OptimizerOptions options;
  options.name = "lion";
  EXPECT_THAT(Optimizer::Create(Parameters(), options).status().ToString(), HasSubstr("adam or sgd"));
  options = {};
  options.momentum = 1;
  EXPECT_FALSE(Optimizer::Create(Parameters(), options).ok());
  options = {};
  options.weight_decay = -1;
  EXPECT_FALSE(Optimizer::Create(Parameters(), options).ok());
  EXPECT_FALSE(Optimizer::Create({}, {}).ok());
}

}  // namespace
}  // namespace doppel
