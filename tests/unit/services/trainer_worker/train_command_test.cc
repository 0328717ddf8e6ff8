#include "services/trainer_worker/train_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "services/trainer_worker/model_commands.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;

// Batches that are a function of the cursor, as the miner's are. Fails, or asks for a stop, before one of
// them.
class FakeSource : public TrainingBatchSource {
 public:
  explicit FakeSource(uint64_t cursor) : cursor_(cursor) {}
  absl::StatusOr<TrainingBatch> Next() override {
    if (cursor_ == fail_at) return absl::UnavailableError("the server is gone");
    if (cursor_ == stop_at) stop->Request();
    TrainingBatch batch;
    batch.cursor = cursor_++;
    batch.height = batch.width = 48;
    batch.channels = 1;
    for (int64_t i = 0; i < 8; ++i) {
      const int64_t identity = static_cast<int64_t>(batch.cursor % 3) * 2 + i / 2;
      batch.identities.push_back(identity);
      for (int p = 0; p < 48 * 48; ++p) {
        batch.pixels.push_back(
            static_cast<uint8_t>((p * (identity + 3) * 17 + static_cast<int>(i + batch.cursor) * 5) % 251));
      }
    }
    return batch;
  }
  void Acknowledge(uint64_t) override {}

  uint64_t fail_at = ~uint64_t{0};
  uint64_t stop_at = ~uint64_t{0};
  StopFlag* stop = nullptr;

 private:
  uint64_t cursor_;
};

class TrainCommandTest : public ::testing::Test {
 protected:
  TrainCommandTest() : root_(absl::StrCat(::testing::TempDir(), "doppel_train_command_test_", getpid())) {
    EXPECT_TRUE(fs_.MakeDirectories(root_).ok());
  }
  ~TrainCommandTest() override { (void)fs_.RemoveRecursively(root_); }

  TrainOptions Options(const std::string& name) {
    TrainOptions options = DefaultTrainOptions();
    options.output = root_ + "/" + name;
    options.schedule.steps = 7;
    options.schedule.warmup = 2;
    options.checkpoint_every = 2;
    options.log_every = 1000;
    return options;
  }
  absl::Status Run(const TrainOptions& options, uint64_t fail_at = ~uint64_t{0},
                   uint64_t stop_at = ~uint64_t{0}) {
    StopFlag stop;
    opened_at_.reset();
    return RunTrain(
        options,
        [&](const TrainOptions&, const ModelSpec&, uint64_t cursor) -> absl::StatusOr<TrainingSource> {
          opened_at_ = cursor;
          auto source = std::make_unique<FakeSource>(cursor);
          source->fail_at = fail_at;
          source->stop_at = stop_at;
          source->stop = &stop;
          return TrainingSource{std::move(source), [] {}};
        },
        stop, fs_, /*quiet=*/true);
  }
  // steps.jsonl without its times.
  std::vector<std::string> Steps(const TrainOptions& options) {
    std::vector<std::string> lines;
    const std::string text = fs_.ReadFile(options.output + "/steps.jsonl").value();
    for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
      auto json = nlohmann::json::parse(std::string(line));
      for (const char* key : {"images_per_second", "wait_seconds", "step_seconds"}) json.erase(key);
      lines.push_back(json.dump());
    }
    return lines;
  }

  FileSystem& fs_ = PosixFileSystem();
  const std::string root_;
  std::optional<uint64_t> opened_at_;
};

TEST_F(TrainCommandTest, TrainsFromScratchToAModel) {
  const TrainOptions options = Options("a");
  ASSERT_TRUE(Run(options).ok());
  EXPECT_EQ(opened_at_, 0U);
  EXPECT_EQ(Steps(options).size(), 7U);
  const auto spec = ReadModelSpec(options.output + "/model");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->step, 7U);
  const auto run = nlohmann::json::parse(fs_.ReadFile(options.output + "/run.json").value());
  EXPECT_EQ(run["options"]["training"]["plan"], "subspace");
  EXPECT_TRUE(run["versions"].contains("doppel"));
}

TEST_F(TrainCommandTest, AFinishedRunIsLeftAlone) {
  const TrainOptions options = Options("a");
  ASSERT_TRUE(Run(options).ok());
  ASSERT_TRUE(Run(options).ok());
  EXPECT_FALSE(opened_at_.has_value());
}

TEST_F(TrainCommandTest, AnInterruptedRunEndsLikeAnUninterruptedOne) {
  const TrainOptions straight = Options("straight");
  ASSERT_TRUE(Run(straight).ok());
  const TrainOptions broken = Options("broken");
  EXPECT_EQ(Run(broken, /*fail_at=*/3).code(), absl::StatusCode::kUnavailable);
  // As after a kill: the newest checkpoint is gone, lines of steps behind the older one are there.
  ASSERT_TRUE(fs_.RemoveRecursively(broken.output + "/checkpoints/step-000000000003").ok());
  EXPECT_EQ(Steps(broken).size(), 3U);
  ASSERT_TRUE(Run(broken).ok());
  EXPECT_EQ(opened_at_, 2U);
  EXPECT_EQ(Steps(broken), Steps(straight));
  EXPECT_EQ(ReadModelSpec(broken.output + "/model")->fingerprint,
            ReadModelSpec(straight.output + "/model")->fingerprint);
}

TEST_F(TrainCommandTest, AStopSavesAndTheNextStartGoesOn) {
  const TrainOptions options = Options("a");
  ASSERT_TRUE(Run(options, ~uint64_t{0}, /*stop_at=*/4).ok());
  EXPECT_EQ(Steps(options).size(), 5U);
  EXPECT_FALSE(fs_.Exists(options.output + "/model"));
  ASSERT_TRUE(Run(options).ok());
  EXPECT_EQ(opened_at_, 5U);
  EXPECT_EQ(Steps(options).size(), 7U);
}

TEST_F(TrainCommandTest, ADamagedCheckpointIsPassedOver) {
  const TrainOptions options = Options("a");
  EXPECT_FALSE(Run(options, /*fail_at=*/4).ok());
  ASSERT_TRUE(fs_.Truncate(options.output + "/checkpoints/step-000000000004/optimizer.pt", 100).ok());
  ASSERT_TRUE(Run(options).ok());
  EXPECT_EQ(opened_at_, 2U);
  EXPECT_EQ(Steps(options).size(), 7U);
}

TEST_F(TrainCommandTest, OtherSettingsInTheSameFolderAreRefused) {
  TrainOptions options = Options("a");
  ASSERT_TRUE(Run(options).ok());
  options.seed = 2;
  const absl::Status status = Run(options);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(status.ToString(), HasSubstr("seed: 1 before, 2 now"));
  options.resume = "never";
  EXPECT_TRUE(Run(options).ok());
  EXPECT_EQ(opened_at_, 0U);
}

TEST_F(TrainCommandTest, StartsFromAGivenModel) {
  ModelSpec spec;
  spec.architecture = "glyph_cnn";
  ASSERT_TRUE(RunInit(spec, 5, root_ + "/init").ok());
  TrainOptions options = Options("a");
  options.model = root_ + "/init";
  options.schedule.steps = 1;
  ASSERT_TRUE(Run(options).ok());
  TrainOptions fresh = Options("b");
  fresh.schedule.steps = 1;
  ASSERT_TRUE(Run(fresh).ok());
  EXPECT_NE(Steps(options), Steps(fresh));
  fresh = Options("c");
  fresh.schedule.steps = 1;
  fresh.seed = 5;
  ASSERT_TRUE(Run(fresh).ok());
  EXPECT_EQ(Steps(options), Steps(fresh));
}

TEST_F(TrainCommandTest, PretrainsAClassifier) {
  TrainOptions options = Options("a");
  options.loss.name = "id_softmax";
  options.identity_limit = 20;
  ASSERT_TRUE(Run(options, /*fail_at=*/3).code() == absl::StatusCode::kUnavailable);
  ASSERT_TRUE(Run(options).ok());
  EXPECT_EQ(Steps(options).size(), 7U);
}

}  // namespace
}  // namespace doppel
