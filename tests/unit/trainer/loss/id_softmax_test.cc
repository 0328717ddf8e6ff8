#include "trainer/loss/id_softmax.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/utils.h>

#include <cmath>

namespace doppel {
namespace {

using ::testing::HasSubstr;

IdSoftmaxOptions Options(int64_t classes, int64_t dimension) {
  IdSoftmaxOptions options;
  options.classes = classes;
  options.dimension = dimension;
  options.seed = 3;
  return options;
}

// Cross entropy from its definition.
double BruteCrossEntropy(const torch::Tensor& x, const std::vector<int64_t>& targets, const torch::Tensor& w,
                         const torch::Tensor& bias, double scale) {
  double total = 0;
  for (int64_t i = 0; i < x.size(0); ++i) {
    std::vector<double> logits;
    for (int64_t c = 0; c < w.size(0); ++c) {
      double dot = 0, xx = 0, ww = 0;
      for (int64_t j = 0; j < x.size(1); ++j) {
        const double a = x[i][j].item<double>(), b = w[c][j].item<double>();
        dot += a * b;
        xx += a * a;
        ww += b * b;
      }
      logits.push_back(scale > 0 ? scale * dot / std::sqrt(xx * ww) : dot + bias[c].item<double>());
    }
    double sum = 0;
    for (double logit : logits) sum += std::exp(logit);
    total += std::log(sum) - logits[targets[i]];
  }
  return total / static_cast<double>(x.size(0));
}

TEST(IdSoftmaxTest, ValueAndGradientAgreeWithTheDefinition) {
  torch::manual_seed(1);
  const std::vector<int64_t> targets = {0, 3, 1, 1};
  const torch::Tensor t = torch::tensor(targets);
  for (double scale : {0.0, 8.0}) {
    IdSoftmaxOptions options = Options(5, 3);
    options.scale = scale;
    torch::Tensor x = torch::randn({4, 3}, torch::kFloat64).requires_grad_(true);
    const torch::Tensor w = torch::randn({5, 3}, torch::kFloat64);
    const torch::Tensor bias = torch::randn({5}, torch::kFloat64);
    torch::Tensor loss = IdSoftmaxLoss(x, t, w, bias, options);
    EXPECT_NEAR(loss.item<double>(), BruteCrossEntropy(x.detach(), targets, w, bias, scale), 1e-10);
    loss.backward();
    for (int64_t i = 0; i < 4; ++i) {
      for (int64_t j = 0; j < 3; ++j) {
        torch::Tensor up = x.detach().clone(), down = x.detach().clone();
        up[i][j] += 1e-6;
        down[i][j] -= 1e-6;
        const double slope = (BruteCrossEntropy(up, targets, w, bias, scale) -
                              BruteCrossEntropy(down, targets, w, bias, scale)) /
                             2e-6;
        EXPECT_NEAR(x.grad()[i][j].item<double>(), slope, 1e-6);
      }
    }
  }
}

TEST(IdSoftmaxTest, ClassesAreGivenInOrderOfFirstAppearance) {
  auto head = IdSoftmaxModule::Create(Options(4, 2)).value();
  ASSERT_TRUE(head->Compute({torch::ones({3, 2}), std::vector<int64_t>{70, 5, 70}}).ok());
  ASSERT_TRUE(head->Compute({torch::ones({2, 2}), std::vector<int64_t>{5, 900}}).ok());
  const NamedTensors state = head->State();
  ASSERT_EQ(state.back().first, "classes");
  EXPECT_TRUE(state.back().second.equal(torch::tensor({70, 5, 900}, torch::kInt64)));
}

TEST(IdSoftmaxTest, OneIdentityTooManyIsAnErrorAndLeavesNoTrace) {
  auto head = IdSoftmaxModule::Create(Options(2, 2)).value();
  const auto result = head->Compute({torch::ones({3, 2}), std::vector<int64_t>{1, 2, 3}});
  EXPECT_EQ(result.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(result.status().ToString(), HasSubstr("room for 2"));
  EXPECT_TRUE(head->Compute({torch::ones({2, 2}), std::vector<int64_t>{1, 2}}).ok());
  EXPECT_FALSE(head->Compute({torch::ones({1, 2}), std::vector<int64_t>{3}}).ok());
}

TEST(IdSoftmaxTest, StateRoundTripsExactly) {
  auto a = IdSoftmaxModule::Create(Options(6, 4)).value();
  torch::manual_seed(5);
  const torch::Tensor x = torch::randn({4, 4});
  const double loss = a->Compute({x, std::vector<int64_t>{9, 9, 4, 4}})->statistics.loss;
  IdSoftmaxOptions other = Options(6, 4);
  other.seed = 99;
  auto b = IdSoftmaxModule::Create(other).value();
  ASSERT_TRUE(b->LoadState(a->State()).ok());
  // The other order would give other classes, had they not come with the state.
  EXPECT_EQ(b->Compute({x, std::vector<int64_t>{9, 9, 4, 4}})->statistics.loss, loss);
  EXPECT_EQ(b->Compute({x.flip(0), std::vector<int64_t>{4, 4, 9, 9}})->statistics.loss,
            a->Compute({x.flip(0), std::vector<int64_t>{4, 4, 9, 9}})->statistics.loss);
}

TEST(IdSoftmaxTest, StateOfAnotherHeadIsRefused) {
  auto a = IdSoftmaxModule::Create(Options(6, 4)).value();
  EXPECT_FALSE(IdSoftmaxModule::Create(Options(7, 4)).value()->LoadState(a->State()).ok());
  EXPECT_FALSE(a->LoadState({}).ok());
  IdSoftmaxOptions linear = Options(6, 4);
  linear.scale = 0;
  EXPECT_FALSE(IdSoftmaxModule::Create(linear).value()->LoadState(a->State()).ok());
}

TEST(IdSoftmaxTest, SeedAloneDecidesTheInitialWeights) {
  auto a = IdSoftmaxModule::Create(Options(6, 4)).value();
  torch::manual_seed(123);
  auto b = IdSoftmaxModule::Create(Options(6, 4)).value();
  EXPECT_TRUE(a->NamedParameters()[0].second.equal(b->NamedParameters()[0].second));
  IdSoftmaxOptions other = Options(6, 4);
  other.seed = 4;
  auto c = IdSoftmaxModule::Create(other).value();
  EXPECT_FALSE(a->NamedParameters()[0].second.equal(c->NamedParameters()[0].second));
}

TEST(IdSoftmaxTest, OneSamplePerIdentityTrainsWithoutTripletStatistics) {
  auto head = IdSoftmaxModule::Create(Options(6, 4)).value();
  auto result = head->Compute({torch::eye(4), std::vector<int64_t>{1, 2, 3, 4}});
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->statistics.triplets, 0);
  EXPECT_NEAR(result->statistics.norm.p50, 1, 1e-6);
}

TEST(IdSoftmaxTest, WrongDimensionAndNanAreErrors) {
  auto head = IdSoftmaxModule::Create(Options(6, 4)).value();
  EXPECT_THAT(head->Compute({torch::ones({2, 3}), std::vector<int64_t>{1, 2}}).status().ToString(),
              HasSubstr("3 dimensions"));
  EXPECT_THAT(head->Compute({torch::full({2, 4}, NAN), std::vector<int64_t>{1, 2}}).status().ToString(),
              HasSubstr("NaN"));
}

}  // namespace
}  // namespace doppel
