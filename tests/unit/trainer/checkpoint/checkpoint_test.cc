#include "trainer/checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>
#include <unistd.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "trainer/checkpoint/tensor_file.h"
#include "trainer/loss/loss_factory.h"
#include "trainer/train/train_step.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;

TrainingBatch Batch(uint64_t cursor) {
  TrainingBatch batch;
  batch.cursor = cursor;
  batch.height = batch.width = 48;
  batch.channels = 1;
  for (int64_t i = 0; i < 8; ++i) {
    // New identities turn up as the cursor moves, so that a classification head's table grows.
    const int64_t identity = static_cast<int64_t>(cursor % 3) * 2 + i / 2;
    batch.identities.push_back(100 + identity);
    for (int p = 0; p < 48 * 48; ++p) {
      batch.pixels.push_back(
          static_cast<uint8_t>((p * (identity + 3) * 17 + static_cast<int>(i + cursor) * 5) % 251));
    }
  }
  return batch;
}

// Everything that a training process holds.
struct Session {
  std::unique_ptr<Network> network;
  std::unique_ptr<Loss> loss;
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<WeightAverage> average;
  std::unique_ptr<TrainStep> step;
  CheckpointParts parts() { return {*network, *optimizer, *loss, average.get()}; }
};

Session Start(const std::string& loss_name, const std::string& optimizer_name, const std::string& checkpoint,
              double ema = 0) {
  SetComputeThreads(1);
  Session session;
  LossOptions loss;
  loss.name = loss_name;
  loss.classes = 20;
  loss.dimension = 128;
  session.loss = MakeLoss(loss).value();
  LoadedCheckpoint loaded;
  if (checkpoint.empty()) {
    ModelSpec spec;
    spec.architecture = "glyph_cnn";
    session.network = CreateNetwork(spec, 3).value();
  } else {
    loaded = ReadCheckpoint(PosixFileSystem(), checkpoint, torch::kCPU).value();
    EXPECT_TRUE(session.loss->LoadState(loaded.loss).ok());
    session.network = std::move(loaded.network);
  }
  UseChannelsLast(*session.network);
  OptimizerOptions optimizer;
  optimizer.name = optimizer_name;
  session.optimizer =
      Optimizer::Create(TrainableParameters(*session.network, *session.loss), optimizer).value();
  if (!checkpoint.empty()) {
    EXPECT_TRUE(session.optimizer->LoadState(loaded.optimizer).ok());
  }
  if (ema > 0) session.average = std::make_unique<WeightAverage>(*session.network, ema);
  if (loaded.average != nullptr) {
    EXPECT_TRUE(session.average->Restore(*loaded.average, loaded.average_updates).ok());
  }
  session.step =
      std::make_unique<TrainStep>(*session.network, *session.loss, *session.optimizer, TrainStepOptions{},
                                  TrainStepExtras{session.average.get(), nullptr});
  return session;
}

class CheckpointTest : public ::testing::Test {
 protected:
  CheckpointTest() : directory_(absl::StrCat(::testing::TempDir(), "doppel_checkpoint_test_", getpid())) {
    EXPECT_TRUE(fs_.MakeDirectories(directory_).ok());
  }
  ~CheckpointTest() override { (void)fs_.RemoveRecursively(directory_); }

  void ExpectExactResume(const std::string& loss, const std::string& optimizer) {
    std::vector<double> straight;
    {
      Session session = Start(loss, optimizer, "");
      for (uint64_t i = 0; i < 6; ++i)
        straight.push_back(session.step->Run(Batch(i), {i, 1e-3, 0, 1})->loss.loss);
    }
    {
      Session session = Start(loss, optimizer, "");
      for (uint64_t i = 0; i < 3; ++i)
        ASSERT_EQ(session.step->Run(Batch(i), {i, 1e-3, 0, 1})->loss.loss, straight[i]);
      ASSERT_TRUE(WriteCheckpoint(fs_, directory_, session.parts(), {3, 3, 9, {}, {}}).ok());
    }
    Session session = Start(loss, optimizer, directory_);
    for (uint64_t i = 3; i < 6; ++i) {
      EXPECT_EQ(session.step->Run(Batch(i), {i, 1e-3, 0, 1})->loss.loss, straight[i])
          << loss << " " << optimizer << " step " << i;
    }
  }

  FileSystem& fs_ = PosixFileSystem();
  const std::string directory_;
};

TEST_F(CheckpointTest, ResumeIsExactWithAdamAndBatchOhnm) { ExpectExactResume("batch_ohnm", "adam"); }
TEST_F(CheckpointTest, ResumeIsExactWithSgdAndBatchHard) { ExpectExactResume("batch_hard", "sgd"); }
TEST_F(CheckpointTest, ResumeIsExactWithAClassificationHead) { ExpectExactResume("id_softmax", "adam"); }

TEST_F(CheckpointTest, PositionRoundTripsAndTheModelIsAModelDirectory) {
  Session session = Start("batch_hard", "adam", "");
  const CheckpointPosition position = {500, 1'000'000'000'000, 77, {9, 400, 0.75, 1}, {1024, 17}};
  ASSERT_TRUE(WriteCheckpoint(fs_, directory_, session.parts(), position).ok());
  const auto loaded = ReadCheckpoint(fs_, directory_, torch::kCPU);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->position.step, 500U);
  EXPECT_EQ(loaded->position.next_cursor, 1'000'000'000'000U);
  EXPECT_EQ(loaded->position.seed, 77U);
  EXPECT_EQ(loaded->position.early_stop.evaluations, 9U);
  EXPECT_EQ(loaded->position.early_stop.best_step, 400U);
  EXPECT_EQ(loaded->position.early_stop.best, 0.75);
  EXPECT_EQ(loaded->position.early_stop.since_best, 1U);
  EXPECT_EQ(loaded->position.loss_scale.scale, 1024);
  EXPECT_EQ(loaded->position.loss_scale.good_steps, 17U);
  EXPECT_EQ(loaded->average, nullptr);
  const auto spec = ReadModelSpec(CheckpointModelDirectory(directory_));
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->step, 500U);
  EXPECT_EQ(spec->architecture, "glyph_cnn");
}

TEST_F(CheckpointTest, BrokenPositionIsNamed) {
  Session session = Start("batch_hard", "adam", "");
  ASSERT_TRUE(WriteCheckpoint(fs_, directory_, session.parts(), {1, 1, 1, {}, {}}).ok());
  ASSERT_TRUE(fs_.Truncate(directory_ + "/position.json", 5).ok());
  EXPECT_THAT(ReadCheckpoint(fs_, directory_, torch::kCPU).status().ToString(), HasSubstr("position.json"));
}

TEST_F(CheckpointTest, TheAveragedModelIsTheModelAndBothGoOnExactly) {
  {
    Session session = Start("batch_ohnm", "adam", "", 0.9);
    for (uint64_t i = 0; i < 6; ++i) ASSERT_TRUE(session.step->Run(Batch(i), {i, 1e-3, 0, 1}).ok());
    ASSERT_TRUE(WriteCheckpoint(fs_, directory_ + "/straight", session.parts(), {6, 6, 9, {}, {}}).ok());
  }
  {
    Session session = Start("batch_ohnm", "adam", "", 0.9);
    for (uint64_t i = 0; i < 3; ++i) ASSERT_TRUE(session.step->Run(Batch(i), {i, 1e-3, 0, 1}).ok());
    ASSERT_TRUE(WriteCheckpoint(fs_, directory_ + "/half", session.parts(), {3, 3, 9, {}, {}}).ok());
  }
  Session session = Start("batch_ohnm", "adam", directory_ + "/half", 0.9);
  EXPECT_EQ(session.average->updates(), 3U);
  for (uint64_t i = 3; i < 6; ++i) ASSERT_TRUE(session.step->Run(Batch(i), {i, 1e-3, 0, 1}).ok());
  ASSERT_TRUE(WriteCheckpoint(fs_, directory_ + "/resumed", session.parts(), {6, 6, 9, {}, {}}).ok());
  for (const char* file : {"/model/weights.pt", "/weights/weights.pt", "/optimizer.pt", "/position.json"}) {
    EXPECT_EQ(fs_.ReadFile(directory_ + "/straight" + file).value(),
              fs_.ReadFile(directory_ + "/resumed" + file).value())
        << file;
  }
  EXPECT_NE(fs_.ReadFile(directory_ + "/straight/model/weights.pt").value(),
            fs_.ReadFile(directory_ + "/straight/weights/weights.pt").value());
}

TEST_F(CheckpointTest, AMetricWithoutAValueYetSurvives) {
  Session session = Start("batch_hard", "adam", "");
  const CheckpointPosition position = {1, 1, 1, {2, 0, std::nan(""), 2}, {}};
  ASSERT_TRUE(WriteCheckpoint(fs_, directory_, session.parts(), position).ok());
  const auto loaded = ReadCheckpoint(fs_, directory_, torch::kCPU);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_TRUE(std::isnan(loaded->position.early_stop.best));
  EXPECT_EQ(loaded->position.early_stop.since_best, 2U);
}

TEST(TensorFileTest, RoundTripsNamesOrderTypesAndValues) {
  auto fs = MakeInMemoryFileSystem();
  const NamedTensors tensors = {
      {"z", torch::randn({2, 3})},
      {"a/b", torch::tensor({1, 2, 3}, torch::kInt64)},
      {"last", torch::randn({2, 3, 4, 4}).contiguous(torch::MemoryFormat::ChannelsLast)},
      {"none", torch::empty({0}, torch::kInt64)}};
  ASSERT_TRUE(WriteTensors(*fs, "t.pt", tensors).ok());
  const auto read = ReadTensors(*fs, "t.pt");
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    EXPECT_EQ((*read)[i].first, tensors[i].first);
    EXPECT_EQ((*read)[i].second.dtype(), tensors[i].second.dtype());
    EXPECT_TRUE((*read)[i].second.equal(tensors[i].second)) << tensors[i].first;
  }
}

TEST(TensorFileTest, EmptyAndBroken) {
  auto fs = MakeInMemoryFileSystem();
  ASSERT_TRUE(WriteTensors(*fs, "none.pt", {}).ok());
  EXPECT_TRUE(ReadTensors(*fs, "none.pt")->empty());
  auto file = fs->Create("bad.pt").value();
  ASSERT_TRUE(file->Append("not a pickle").ok());
  ASSERT_TRUE(file->Close().ok());
  EXPECT_EQ(ReadTensors(*fs, "bad.pt").status().code(), absl::StatusCode::kDataLoss);
  EXPECT_FALSE(ReadTensors(*fs, "missing.pt").ok());
}

}  // namespace
}  // namespace doppel
