#include "trainer/train/served_embeddings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/utils.h>

#include "tests/unit/trainer/train/tiny_network.h"
#include "trainer/loss/loss_factory.h"

namespace doppel {
namespace {

using train_test::At;
using train_test::Batch;
using train_test::TinyNetwork;

TEST(FitToServedTest, FindsScaleAndShift) {
  torch::manual_seed(1);
  const torch::Tensor trained = torch::randn({12, 5});
  const torch::Tensor served = trained * 0.4 + torch::randn({1, 5});
  const torch::Tensor rows = torch::tensor({0, 4, 8}, torch::kInt64);
  const torch::Tensor fitted = FitToServed(trained, rows, served.index_select(0, rows), false);
  EXPECT_LT((fitted - served).abs().max().item<double>(), 1e-5);
}

TEST(FitToServedTest, OneRowGivesTheShiftAlone) {
  const torch::Tensor trained = torch::tensor({{1.0F, 0.0F}, {0.0F, 1.0F}});
  const torch::Tensor rows = torch::zeros({1}, torch::kInt64);
  const torch::Tensor fitted = FitToServed(trained, rows, torch::tensor({{1.0F, 2.0F}}), false);
  EXPECT_LT((fitted - torch::tensor({{1.0F, 2.0F}, {0.0F, 3.0F}})).abs().max().item<double>(), 1e-6);
}

TEST(FitToServedTest, KeepsUnitLength) {
  torch::manual_seed(2);
  const torch::Tensor rows = torch::tensor({1, 3}, torch::kInt64);
  const torch::Tensor fitted = FitToServed(torch::randn({6, 4}), rows, torch::randn({2, 4}), true);
  EXPECT_LT((fitted.norm(2, {1}) - 1).abs().max().item<double>(), 1e-5);
}

TEST(ReferencePassTest, IsDueWithTheLastOfItsBatches) {
  ReferencePass pass(3);
  for (int round = 0; round < 2; ++round) {
    EXPECT_FALSE(pass.Add(1000, true));
    EXPECT_FALSE(pass.Add(1000, true));
    EXPECT_TRUE(pass.Add(1000, true));
    pass.Reset();
  }
  ReferencePass endless(4096);
  int batches = 1;
  while (!endless.Add(1, true)) ASSERT_LE(++batches, 64);
  EXPECT_EQ(batches, 8);
}

TEST(ReferencePassTest, LargeBatchesDoNotWait) {
  ReferencePass pass(8);
  EXPECT_FALSE(pass.Add(192 * 48 * 48, true));
  EXPECT_TRUE(pass.Add(192 * 112 * 112 * 3, true));
}

TEST(ReferencePassTest, NothingWaitsForAPassThatIsNotNeeded) {
  ReferencePass pass(8);
  EXPECT_TRUE(pass.Add(1, false));
}

// A real net with batch norms on images that have much in common.
class ServedEmbeddingsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ModelSpec spec;
    spec.architecture = "glyph_cnn";
    spec.height = spec.width = 48;
    spec.channels = 1;
    spec.mean[0] = 0.5F;
    spec.std[0] = 0.5F;
    spec.dimension = 16;
    spec.normalize = true;
    network_ = CreateNetwork(spec, 3).value();
    LossOptions options;
    options.name = "batch_hard";
    options.margin = "soft";
    loss_ = MakeLoss(options).value();
    optimizer_ = Optimizer::Create(TrainableParameters(*network_, *loss_), {}).value();
    step_ = std::make_unique<TrainStep>(*network_, *loss_, *optimizer_, TrainStepOptions{});
  }
  // Images of bars; `alike`: all of them share three quarters of the picture.
  static TrainingBatch Images(uint64_t cursor, bool alike) {
    TrainingBatch batch;
    batch.cursor = cursor;
    batch.height = batch.width = 48;
    batch.channels = 1;
    for (int64_t i = 0; i < 24; ++i) {
      batch.identities.push_back(i / 2);
      const auto own = static_cast<int>(i / 2 + static_cast<int64_t>(cursor) * 12);
      for (int y = 0; y < 48; ++y) {
        const int kind = alike && y < 36 ? 3 : own;
        for (int x = 0; x < 48; ++x) {
          const int wave = (x * (kind % 5 + 1) + y * (kind % 7 + 2) + static_cast<int>(i % 2)) % 16;
          batch.pixels.push_back(static_cast<uint8_t>(wave < 6 + kind % 4 ? 255 : 0));
        }
      }
    }
    return batch;
  }
  // Of the batch that was stepped on last.
  torch::Tensor Reported(const TrainingBatch& batch, int references) {
    return step_->ServedEmbeddings({step_->KeepLast(batch, references).value()}).value().at(0);
  }
  torch::Tensor Served(const TrainingBatch& batch) {
    network_->Train(false);
    const torch::Tensor pixels =
        torch::from_blob(const_cast<uint8_t*>(batch.pixels.data()), {24, 48, 48, 1}, torch::kUInt8);
    return network_->Forward(ToInput(network_->spec(), pixels)).detach();
  }
  std::unique_ptr<Network> network_;
  std::unique_ptr<Loss> loss_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<TrainStep> step_;
};

TEST_F(ServedEmbeddingsTest, AFewImagesBringABatchOfLookAlikesNear) {
  for (uint64_t i = 0; i < 40; ++i) ASSERT_TRUE(step_->Run(Images(i, false), At(1e-4)).ok());
  const TrainingBatch batch = Images(3, true);
  ASSERT_TRUE(step_->Run(batch, At(0)).ok());
  const torch::Tensor trained = step_->last_embeddings();
  const torch::Tensor reported = Reported(batch, 6);
  const torch::Tensor served = Served(batch);
  const double as_trained = (trained * served).sum(1).mean().item<double>();
  const double as_reported = (reported * served).sum(1).mean().item<double>();
  EXPECT_LT(as_trained, 0.9);
  EXPECT_GT(1 - as_trained, 2 * (1 - as_reported)) << as_trained << " " << as_reported;
}

// What a batch is reported as when it waited for others: near to what the network of then serves.
TEST_F(ServedEmbeddingsTest, ABatchMayWaitForSevenMoreSteps) {
  for (uint64_t i = 0; i < 40; ++i) ASSERT_TRUE(step_->Run(Images(i, false), At(1e-4)).ok());
  std::vector<EmbeddedBatch> kept;
  for (uint64_t i = 0; i < 8; ++i) {
    ASSERT_TRUE(step_->Run(Images(i, true), At(1e-4)).ok());
    kept.push_back(step_->KeepLast(Images(i, true), 6).value());
  }
  const std::vector<torch::Tensor> reported = step_->ServedEmbeddings(kept).value();
  ASSERT_EQ(reported.size(), 8);
  for (uint64_t i = 0; i < 8; ++i) {
    const torch::Tensor served = Served(Images(i, true));
    const double as_trained = (kept[i].embeddings * served).sum(1).mean().item<double>();
    const double as_reported = (reported[i] * served).sum(1).mean().item<double>();
    EXPECT_GT(1 - as_trained, 2 * (1 - as_reported)) << i << ": " << as_trained << " " << as_reported;
  }
}

TEST_F(ServedEmbeddingsTest, AnotherBatchInThePassChangesNothing) {
  std::vector<EmbeddedBatch> kept;
  for (uint64_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(step_->Run(Images(i, true), At(1e-3)).ok());
    kept.push_back(step_->KeepLast(Images(i, true), i == 1 ? 0 : 4 + static_cast<int>(i)).value());
  }
  const std::vector<torch::Tensor> together = step_->ServedEmbeddings(kept).value();
  ASSERT_EQ(together.size(), 3);
  EXPECT_TRUE(together[1].equal(kept[1].embeddings));
  for (const size_t i : {0, 2}) {
    const torch::Tensor alone = step_->ServedEmbeddings({kept[i]}).value().at(0);
    EXPECT_LT((together[i] - alone).abs().max().item<double>(), 1e-5) << i;
    EXPECT_GT((together[i] - kept[i].embeddings).abs().max().item<double>(), 1e-3) << i;
  }
}

TEST_F(ServedEmbeddingsTest, TrainingDoesNotNotice) {
  std::vector<double> losses;
  for (const int references : {0, 6}) {
    SetUp();
    for (uint64_t i = 0; i < 5; ++i) {
      losses.push_back(step_->Run(Images(i, true), At(1e-3))->loss.loss);
      Reported(Images(i, true), references);
    }
  }
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(losses[i], losses[i + 5]) << i;
}

TEST_F(ServedEmbeddingsTest, AnotherBatchIsAnError) {
  EXPECT_EQ(step_->KeepLast(Images(0, true), 4).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(ServedEmbeddingsOfOtherNetworksTest, WithoutBatchNormsThereIsNothingToMakeUpFor) {
  TinyNetwork network;
  LossOptions options;
  options.name = "batch_hard";
  options.margin = "soft";
  const auto loss = MakeLoss(options).value();
  auto optimizer = Optimizer::Create(TrainableParameters(network, *loss), {}).value();
  TrainStep step(network, *loss, *optimizer, {});
  ASSERT_TRUE(step.Run(Batch(0), At(0.01)).ok());
  const EmbeddedBatch kept = step.KeepLast(Batch(0), 4).value();
  EXPECT_FALSE(kept.rows.defined());
  EXPECT_TRUE(step.ServedEmbeddings({kept})->at(0).equal(step.last_embeddings()));
  EXPECT_TRUE(network.training);
}

}  // namespace
}  // namespace doppel
