// What changes weights besides the plain step: accumulation, averages, freezing, skipping, precision.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "tests/unit/trainer/train/tiny_network.h"
#include "trainer/loss/loss_factory.h"
#include "trainer/train/inspect.h"
#include "trainer/train/train_step.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;

// A network with what trains it, by plain SGD, so that an update shows the gradient.
struct Rig {
  explicit Rig(TrainStepOptions options = {}, double ema = 0, uint64_t freeze_steps = 0) {
    LossOptions settings;
    settings.name = "batch_hard";
    settings.margin = "soft";
    loss = MakeLoss(settings).value();
    UseChannelsLast(network);
    OptimizerOptions sgd;
    sgd.name = "sgd";
    sgd.momentum = 0;
    optimizer = Optimizer::Create(TrainableParameters(network, *loss), sgd).value();
    TrainStepExtras extras;
    if (ema > 0) average = std::make_unique<WeightAverage>(network, ema);
    if (freeze_steps > 0) {
      freeze = std::make_unique<FreezeStage>(FreezeStage::Create(network, freeze_steps, "").value());
    }
    extras.average = average.get();
    extras.freeze = freeze.get();
    step = std::make_unique<TrainStep>(network, *loss, *optimizer, options, extras);
  }
  torch::Tensor Weight(size_t i) { return network.NamedParameters()[i].second.detach().clone(); }

  train_test::TinyNetwork network;
  std::unique_ptr<Loss> loss;
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<WeightAverage> average;
  std::unique_ptr<FreezeStage> freeze;
  std::unique_ptr<TrainStep> step;
};

using train_test::At;
using train_test::Batch;

TEST(AccumulationTest, TheUpdateIsTheMeanOfTheBatchesGradients) {
  // Two batches apart, from the same weights…
  torch::Tensor mean;
  for (uint64_t i = 0; i < 2; ++i) {
    Rig rig;
    const torch::Tensor before = rig.Weight(0);
    ASSERT_TRUE(rig.step->Run(Batch(i), At(1)).ok());
    const torch::Tensor gradient = before - rig.Weight(0);
    mean = mean.defined() ? (mean + gradient) / 2 : gradient;
  }
  // …and in one step.
  Rig rig;
  const torch::Tensor before = rig.Weight(0);
  ASSERT_TRUE(rig.step->Run(Batch(0), {0, 1, 0, 2}).ok());
  EXPECT_TRUE(before.equal(rig.Weight(0))) << "no update before the last batch";
  ASSERT_TRUE(rig.step->Run(Batch(1), {0, 1, 1, 2}).ok());
  EXPECT_TRUE((before - rig.Weight(0)).allclose(mean, 1e-4, 1e-6));
}

TEST(AccumulationTest, MiningStaysInsideEachBatch) {
  // Both batches hold the same identities; a joint mining would find other pairs than each alone.
  std::vector<LossStatistics> alone;
  for (uint64_t i = 0; i < 2; ++i) {
    Rig rig;
    alone.push_back(rig.step->Run(Batch(i), At(1))->loss);
  }
  Rig rig;
  ASSERT_TRUE(rig.step->Run(Batch(0), {0, 1, 0, 2}).ok());
  const auto both = rig.step->Run(Batch(1), {0, 1, 1, 2});
  ASSERT_TRUE(both.ok());
  EXPECT_EQ(both->loss.triplets, alone[0].triplets + alone[1].triplets);
  EXPECT_DOUBLE_EQ(both->loss.loss, (alone[0].loss + alone[1].loss) / 2);
}

TEST(AccumulationTest, TheSameBatchTwiceIsThatBatchOnce) {
  Rig once, twice;
  ASSERT_TRUE(once.step->Run(Batch(3), At(0.5)).ok());
  ASSERT_TRUE(twice.step->Run(Batch(3), {0, 0.5, 0, 2}).ok());
  ASSERT_TRUE(twice.step->Run(Batch(3), {0, 0.5, 1, 2}).ok());
  EXPECT_TRUE(once.Weight(1).allclose(twice.Weight(1), 1e-5, 1e-7));
}

TEST(AccumulationTest, AStepThatStartsOverForgetsItsHalf) {
  Rig straight, restarted;
  ASSERT_TRUE(restarted.step->Run(Batch(9), {0, 0.5, 0, 2}).ok());
  for (Rig* rig : {&straight, &restarted}) {
    ASSERT_TRUE(rig->step->Run(Batch(0), {0, 0.5, 0, 2}).ok());
    ASSERT_TRUE(rig->step->Run(Batch(1), {0, 0.5, 1, 2}).ok());
  }
  EXPECT_TRUE(straight.Weight(0).equal(restarted.Weight(0)));
}

TEST(WeightAverageTest, FollowsTheWeightsByItsFormula) {
  Rig rig({}, 0.9);
  torch::Tensor expected = rig.Weight(1).to(torch::kFloat64);
  for (uint64_t t = 1; t <= 5; ++t) {
    ASSERT_TRUE(rig.step->Run(Batch(t), At(0.5)).ok());
    const double d = std::min(0.9, (1.0 + t) / (10.0 + t));
    expected = d * expected + (1 - d) * rig.Weight(1).to(torch::kFloat64);
  }
  EXPECT_EQ(rig.average->updates(), 5U);
  const AveragedWeights averaged(rig.average.get());
  EXPECT_TRUE(rig.Weight(1).to(torch::kFloat64).allclose(expected, 1e-5, 1e-6));
}

TEST(WeightAverageTest, AveragesRunningStatisticsToo) {
  Rig rig({}, 0.9);
  const double before = rig.network.NamedBuffers()[0].second.item<double>();
  ASSERT_TRUE(rig.step->Run(Batch(0), At(0.5)).ok());
  const double after = rig.network.NamedBuffers()[0].second.item<double>();
  ASSERT_NE(before, after);
  const AveragedWeights averaged(rig.average.get());
  EXPECT_NEAR(rig.network.NamedBuffers()[0].second.item<double>(), before * 2 / 11 + after * 9 / 11, 1e-6);
}

TEST(WeightAverageTest, SwappingTwiceChangesNoBit) {
  Rig rig({}, 0.9);
  ASSERT_TRUE(rig.step->Run(Batch(0), At(0.5)).ok());
  const torch::Tensor before = rig.Weight(0);
  {
    const AveragedWeights averaged(rig.average.get());
    EXPECT_FALSE(before.equal(rig.Weight(0)));
  }
  EXPECT_TRUE(before.equal(rig.Weight(0)));
  const AveragedWeights none(nullptr);
  EXPECT_TRUE(before.equal(rig.Weight(0)));
}

TEST(WeightAverageTest, DoesNotDisturbTheTraining) {
  Rig with({}, 0.9), without;
  for (uint64_t i = 0; i < 4; ++i) {
    ASSERT_TRUE(with.step->Run(Batch(i), At(0.5)).ok());
    ASSERT_TRUE(without.step->Run(Batch(i), At(0.5)).ok());
  }
  EXPECT_TRUE(with.Weight(0).equal(without.Weight(0)));
}

TEST(WeightAverageTest, RefusesAnotherNetworksAverage) {
  class Other : public train_test::TinyNetwork {
    std::vector<std::pair<std::string, torch::Tensor>> NamedBuffers() override { return {}; }
  } other;
  Rig rig({}, 0.9);
  EXPECT_EQ(rig.average->Restore(other, 3).code(), absl::StatusCode::kFailedPrecondition);
}

TEST(FreezeTest, TheHeadAloneIsTrainedFirst) {
  Rig rig({}, 0, /*freeze_steps=*/2);
  const torch::Tensor body = rig.Weight(0);
  torch::Tensor head = rig.Weight(1);
  for (uint64_t done = 0; done < 2; ++done) {
    ASSERT_TRUE(rig.step->Run(Batch(done), At(0.5, done)).ok());
    EXPECT_TRUE(body.equal(rig.Weight(0)));
    EXPECT_FALSE(head.equal(rig.Weight(1)));
    head = rig.Weight(1);
  }
  ASSERT_TRUE(rig.step->Run(Batch(2), At(0.5, 2)).ok());
  EXPECT_FALSE(body.equal(rig.Weight(0)));
}

TEST(FreezeTest, TheStageIsAFunctionOfTheStep) {
  Rig rig({}, 0, /*freeze_steps=*/100);
  const torch::Tensor body = rig.Weight(0);
  ASSERT_TRUE(rig.step->Run(Batch(0), At(0.5, 150)).ok());
  EXPECT_FALSE(body.equal(rig.Weight(0)));
  const torch::Tensor then = rig.Weight(0);
  ASSERT_TRUE(rig.step->Run(Batch(1), At(0.5, 20)).ok());
  EXPECT_TRUE(then.equal(rig.Weight(0)));
}

TEST(FreezeTest, PrefixesAreTakenOutForGood) {
  train_test::TinyNetwork network;
  ASSERT_TRUE(FreezeParameters(network, {"conv."}).ok());
  EXPECT_FALSE(network.NamedParameters()[0].second.requires_grad());
  EXPECT_TRUE(network.NamedParameters()[1].second.requires_grad());
}

TEST(FreezeTest, WrongPrefixesAndFreezingEverythingAreNamed) {
  train_test::TinyNetwork network;
  EXPECT_THAT(FreezeParameters(network, {"layer9"}).ToString(), HasSubstr("conv., fc."));
  EXPECT_FALSE(FreezeParameters(network, {"conv.", "fc."}).ok());
  train_test::TinyNetwork other;
  EXPECT_THAT(FreezeStage::Create(other, 5, "nose").status().ToString(), HasSubstr("--head"));
}

// Embeddings that are not finite while it is told so.
class Fragile : public train_test::TinyNetwork {
 public:
  bool broken = false;
  torch::Tensor Forward(const torch::Tensor& images) override {
    const torch::Tensor out = TinyNetwork::Forward(images);
    return broken ? out * INFINITY : out;
  }
};

struct FragileRig {
  explicit FragileRig(int max_skipped) {
    LossOptions settings;
    settings.name = "batch_hard";
    loss = MakeLoss(settings).value();
    optimizer = Optimizer::Create(TrainableParameters(network, *loss), {}).value();
    TrainStepOptions options;
    options.max_skipped = max_skipped;
    average = std::make_unique<WeightAverage>(network, 0.9);
    step = std::make_unique<TrainStep>(network, *loss, *optimizer, options, TrainStepExtras{average.get()});
  }
  Fragile network;
  std::unique_ptr<Loss> loss;
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<WeightAverage> average;
  std::unique_ptr<TrainStep> step;
};

TEST(SkipTest, AStepThatIsNotFiniteLeavesEverythingAsItWas) {
  FragileRig rig(2);
  ASSERT_TRUE(rig.step->Run(Batch(0), At(0.1)).ok());
  const torch::Tensor weight = rig.network.NamedParameters()[0].second.detach().clone();
  const torch::Tensor buffer = rig.network.NamedBuffers()[0].second.clone();
  const size_t moments = rig.optimizer->State().size();
  rig.network.broken = true;
  const auto skipped = rig.step->Run(Batch(1), At(0.1, 1));
  ASSERT_TRUE(skipped.ok()) << skipped.status();
  EXPECT_TRUE(skipped->skipped);
  EXPECT_TRUE(std::isnan(skipped->loss.loss));
  EXPECT_TRUE(weight.equal(rig.network.NamedParameters()[0].second));
  EXPECT_TRUE(buffer.equal(rig.network.NamedBuffers()[0].second));
  EXPECT_EQ(rig.optimizer->State().size(), moments);
  EXPECT_EQ(rig.average->updates(), 1U);
  rig.network.broken = false;
  EXPECT_FALSE(rig.step->Run(Batch(2), At(0.1, 2))->skipped);
}

TEST(SkipTest, TooManyOnEndAreAnError) {
  FragileRig rig(2);
  rig.network.broken = true;
  EXPECT_TRUE(rig.step->Run(Batch(0), At(0.1)).ok());
  EXPECT_TRUE(rig.step->Run(Batch(1), At(0.1)).ok());
  EXPECT_THAT(rig.step->Run(Batch(2), At(0.1)).status().ToString(), HasSubstr("3 steps on end"));
}

TEST(SkipTest, OneBadBatchSpoilsItsWholeStep) {
  FragileRig rig(2);
  const torch::Tensor weight = rig.network.NamedParameters()[0].second.detach().clone();
  ASSERT_TRUE(rig.step->Run(Batch(0), {0, 0.1, 0, 3}).ok());
  rig.network.broken = true;
  ASSERT_TRUE(rig.step->Run(Batch(1), {0, 0.1, 1, 3}).ok());
  rig.network.broken = false;
  const auto last = rig.step->Run(Batch(2), {0, 0.1, 2, 3});
  ASSERT_TRUE(last.ok());
  EXPECT_TRUE(last->skipped);
  EXPECT_TRUE(weight.equal(rig.network.NamedParameters()[0].second));
}

TEST(PrecisionTest, NamesAndWhatTheDeviceLacks) {
  EXPECT_EQ(ResolvePrecision("float32", torch::kCPU).value(), Precision::kFloat32);
  EXPECT_EQ(ResolvePrecision("auto", torch::kCPU).value(), Precision::kFloat32);
  EXPECT_THAT(ResolvePrecision("float16", torch::kCPU).status().ToString(), HasSubstr("CUDA"));
  EXPECT_THAT(ResolvePrecision("int8", torch::kCPU).status().ToString(), HasSubstr("bfloat16"));
  EXPECT_EQ(PrecisionName(Precision::kBfloat16), "bfloat16");
}

TEST(PrecisionTest, Bfloat16EmbedsCloseToFloat32AndKeepsFloat32Weights) {
  const auto precision = ResolvePrecision("bfloat16", torch::kCPU);
  if (!precision.ok()) {
    EXPECT_TRUE(absl::IsUnavailable(precision.status())) << precision.status();
    return;
  }
  TrainStepOptions options;
  options.precision = *precision;
  Rig exact, rough(options);
  ASSERT_TRUE(exact.step->Run(Batch(0), At(0.01)).ok());
  const auto result = rough.step->Run(Batch(0), At(0.01));
  ASSERT_TRUE(result.ok()) << result.status();
  const torch::Tensor& one = exact.step->last_embeddings();
  const torch::Tensor& other = rough.step->last_embeddings();
  // 8 bits of mantissa, through three layers.
  EXPECT_LT((one - other).abs().max().item<double>(), 0.03 * one.abs().max().item<double>());
  EXPECT_EQ(rough.Weight(0).scalar_type(), torch::kFloat32);
  EXPECT_EQ(rough.step->last_embeddings().scalar_type(), torch::kFloat32);
  EXPECT_FALSE(exact.Weight(0).equal(rough.Weight(0))) << "autocast did nothing";
}

TEST(PrecisionTest, AutocastEndsWithItsScope) {
  { const AutocastScope scope(Precision::kBfloat16, torch::kCPU); }
  const torch::Tensor a = torch::ones({4, 4});
  EXPECT_EQ(torch::mm(a, a).scalar_type(), torch::kFloat32);
}

TEST(PrecisionTest, LossScalingDoesNotChangeTheUpdate) {
  TrainStepOptions options;
  Rig plain(options), scaled(options);
  scaled.step->scaler() = LossScaler(1024, 2);
  for (uint64_t i = 0; i < 4; ++i) {
    const auto one = plain.step->Run(Batch(i), At(0.01));
    const auto other = scaled.step->Run(Batch(i), At(0.01));
    ASSERT_TRUE(other.ok());
    EXPECT_NEAR(one->grad_norm, other->grad_norm, 1e-4 * one->grad_norm);
    EXPECT_EQ(other->loss_scale, i < 2 ? 1024 : 2048);
  }
  EXPECT_TRUE(plain.Weight(0).allclose(scaled.Weight(0), 1e-4, 1e-6));
}

TEST(PrecisionTest, AnOverflowingScaleSettlesByItself) {
  Rig rig;
  rig.step->scaler() = LossScaler(1e39, 100);  // beyond float32: the first gradients overflow
  int skipped = 0;
  for (uint64_t i = 0; i < 20; ++i) {
    const auto result = rig.step->Run(Batch(i), At(0.01));
    ASSERT_TRUE(result.ok()) << result.status();
    skipped += result->skipped ? 1 : 0;
  }
  EXPECT_GT(skipped, 0);
  EXPECT_LT(skipped, 20);
}

TEST(InspectTest, FindsEveryAnchorsHardestTriplet) {
  // On a line: identities 0 at 0 and 4, identity 1 at 1 and 9.
  const torch::Tensor rows = torch::tensor({{0.0F}, {4.0F}, {1.0F}, {9.0F}});
  const std::vector<int64_t> identities = {0, 0, 1, 1};
  const StepSnapshot snapshot = InspectBatch(rows, identities, Distance::kEuclidean, 2);
  EXPECT_EQ(snapshot.norms.count, 4U);
  EXPECT_EQ(snapshot.norms.max, 9);
  EXPECT_EQ(snapshot.d_ap.count, 4U);
  EXPECT_NEAR(snapshot.d_ap.max, 8, 1e-3);
  EXPECT_NEAR(snapshot.d_an.min, 1, 1e-3);
  ASSERT_EQ(snapshot.hardest.size(), 2U);
  EXPECT_EQ(snapshot.hardest[0].anchor, 2);  // 8 - 1
  EXPECT_EQ(snapshot.hardest[0].positive, 3);
  EXPECT_EQ(snapshot.hardest[0].negative, 0);
  EXPECT_EQ(snapshot.hardest[1].anchor, 0);  // 4 - 1, before 8 - 5 by order
}

TEST(InspectTest, AnchorsWithoutPositiveOrNegativeAreLeftOut) {
  const torch::Tensor rows = torch::tensor({{0.0F}, {4.0F}});
  EXPECT_TRUE(InspectBatch(rows, std::vector<int64_t>{0, 0}, Distance::kEuclidean, 5).hardest.empty());
  EXPECT_TRUE(InspectBatch(rows, std::vector<int64_t>{0, 1}, Distance::kEuclidean, 5).hardest.empty());
}

TEST(InspectTest, TheStepKeepsItsEmbeddingsForIt) {
  Rig rig;
  EXPECT_FALSE(rig.step->last_embeddings().defined());
  ASSERT_TRUE(rig.step->Run(Batch(0), At(0.01)).ok());
  EXPECT_EQ(rig.step->last_embeddings().size(0), 8);
  EXPECT_FALSE(rig.step->last_embeddings().requires_grad());
  const auto weights = InspectWeights(rig.network.NamedParameters());
  ASSERT_EQ(weights.size(), 2U);
  EXPECT_EQ(weights[0].first, "conv.weight");
  EXPECT_EQ(weights[0].second.count, 72U);
}

}  // namespace
}  // namespace doppel
