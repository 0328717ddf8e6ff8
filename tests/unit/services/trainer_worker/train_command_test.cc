#include "services/trainer_worker/train_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "services/trainer_worker/model_commands.h"
#include "services/trainer_worker/torchscript_export.h"
#include "tests/support/catalog_fixture.h"
#include "trainer/train/event_file.h"

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
    if (on_next) on_next(cursor_);
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
  std::function<void(uint64_t cursor)> on_next;

 private:
  uint64_t cursor_;
};

// Keeps what it is told, if asked to.
class FakeReporter : public EmbeddingReporter {
 public:
  explicit FakeReporter(std::vector<BatchReport>* reports) : reports_(reports) {}
  void Offer(BatchReport batch) override { reports_->push_back(std::move(batch)); }
  Counters counters() const override { return {}; }

 private:
  std::vector<BatchReport>* reports_;
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
          source->on_next = on_next_;
          return TrainingSource{std::move(source), [] {},
                                report_ ? std::make_unique<FakeReporter>(&reports_) : nullptr, nullptr};
        },
        stop, fs_, /*quiet=*/true);
  }
  // Steps of all summaries in the run's event files, and the tags of `step`.
  std::vector<int64_t> EventSteps(const TrainOptions& options, int64_t step, std::set<std::string>* tags) {
    std::vector<int64_t> steps;
    const std::string folder = options.output + "/tensorboard";
    const std::vector<std::string> names = fs_.List(folder).value();
    for (const std::string& name : names) {
      const std::string data = fs_.ReadFile(folder + "/" + name).value();
      size_t position = 0;
      for (auto record = ReadRecord(data, &position); record.ok(); record = ReadRecord(data, &position)) {
        v1::TensorBoardEvent event;
        EXPECT_TRUE(event.ParseFromString(*record));
        if (!event.has_summary()) continue;
        steps.push_back(event.step());
        if (event.step() != step) continue;
        for (const auto& value : event.summary().value()) tags->insert(value.tag());
      }
    }
    return steps;
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
  bool report_ = false;
  std::function<void(uint64_t cursor)> on_next_;
  std::vector<BatchReport> reports_;
};

bool SameReport(const BatchReport& a, const BatchReport& b) {
  return a.model_step == b.model_step && a.cursor == b.cursor && a.loss == b.loss &&
         a.active_share == b.active_share && a.dimension == b.dimension && a.identities == b.identities &&
         a.embeddings == b.embeddings;
}

TEST_F(TrainCommandTest, TrainsFromScratchToAModel) {
  const TrainOptions options = Options("a");
  ASSERT_TRUE(Run(options).ok());
  EXPECT_EQ(opened_at_, 0U);
  EXPECT_EQ(Steps(options).size(), 7U);
  const auto spec = ReadModelSpec(options.output + "/model");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->step, 7U);
  const auto run = nlohmann::json::parse(fs_.ReadFile(options.output + "/run.json").value());
  EXPECT_EQ(run["options"]["training"]["plan"], "auto");
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

TEST_F(TrainCommandTest, ReportsEachBatchAndAfterAResumeTheSameAgain) {
  report_ = true;
  TrainOptions straight = Options("straight");
  straight.schedule.steps = 11;
  straight.checkpoint_every = 5;
  straight.report_every = 4;  // so the checkpoints come while reports wait for one another
  ASSERT_TRUE(Run(straight).ok());
  const std::vector<BatchReport> expected = std::exchange(reports_, {});
  ASSERT_EQ(expected.size(), 11U);
  for (uint64_t i = 0; i < 11; ++i) {
    EXPECT_EQ(expected[i].cursor, i);
    EXPECT_EQ(expected[i].model_step, i);
    EXPECT_EQ(expected[i].embeddings.size(), 8U * expected[i].dimension);
  }

  TrainOptions broken = straight;
  broken.output = root_ + "/broken";
  EXPECT_FALSE(Run(broken, /*fail_at=*/8).ok());
  EXPECT_EQ(reports_.size(), 8U);
  ASSERT_TRUE(fs_.RemoveRecursively(broken.output + "/checkpoints/step-000000000008").ok());
  reports_.clear();
  ASSERT_TRUE(Run(broken).ok());
  ASSERT_EQ(reports_.size(), 6U);
  for (size_t i = 0; i < 6; ++i) EXPECT_TRUE(SameReport(reports_[i], expected[i + 5])) << i;
}

TEST_F(TrainCommandTest, WithoutReferencesNothingWaits) {
  report_ = true;
  TrainOptions options = Options("a");
  options.report_references = 0;
  options.schedule.steps = 3;
  options.checkpoint_every = 0;
  size_t before_the_end = 0;
  on_next_ = [&](uint64_t cursor) {
    if (cursor == 2) before_the_end = reports_.size();
  };
  ASSERT_TRUE(Run(options).ok());
  EXPECT_EQ(before_the_end, 2U);
  EXPECT_EQ(reports_.size(), 3U);
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

TEST_F(TrainCommandTest, AccumulatedStepsResumeAtTheRightCursor) {
  TrainOptions straight = Options("straight");
  straight.accumulate = 3;
  straight.schedule.steps = 4;
  ASSERT_TRUE(Run(straight).ok());
  EXPECT_EQ(Steps(straight).size(), 4U);
  TrainOptions broken = straight;
  broken.output = root_ + "/broken";
  EXPECT_FALSE(Run(broken, /*fail_at=*/7).ok());  // one batch into the third step
  ASSERT_TRUE(Run(broken).ok());
  EXPECT_EQ(opened_at_, 6U);
  EXPECT_EQ(Steps(broken), Steps(straight));
  EXPECT_EQ(ReadModelSpec(broken.output + "/model")->fingerprint,
            ReadModelSpec(straight.output + "/model")->fingerprint);
}

TEST_F(TrainCommandTest, AveragedFrozenAndClippedRunsResumeExactly) {
  TrainOptions straight = Options("straight");
  straight.ema = 0.9;
  straight.freeze_steps = 3;
  straight.clip_norm = 0.5;
  ASSERT_TRUE(Run(straight).ok());
  TrainOptions broken = straight;
  broken.output = root_ + "/broken";
  EXPECT_FALSE(Run(broken, /*fail_at=*/2).ok());  // while the body is frozen
  EXPECT_FALSE(Run(broken, /*fail_at=*/5).ok());  // and after
  ASSERT_TRUE(Run(broken).ok());
  EXPECT_EQ(Steps(broken), Steps(straight));
  EXPECT_EQ(ReadModelSpec(broken.output + "/model")->fingerprint,
            ReadModelSpec(straight.output + "/model")->fingerprint);
  TrainOptions plain = Options("plain");
  plain.freeze_steps = 3;
  plain.clip_norm = 0.5;
  ASSERT_TRUE(Run(plain).ok());
  EXPECT_EQ(Steps(plain), Steps(straight)) << "averaging must not disturb the training";
  EXPECT_NE(ReadModelSpec(plain.output + "/model")->fingerprint,
            ReadModelSpec(straight.output + "/model")->fingerprint);
}

TEST_F(TrainCommandTest, EventFilesHaveEveryStepOnceAfterAResume) {
  TrainOptions options = Options("a");
  options.tensorboard_every = 1;
  options.tensorboard_details_every = 4;
  EXPECT_FALSE(Run(options, /*fail_at=*/5).ok());
  ASSERT_TRUE(fs_.RemoveRecursively(options.output + "/checkpoints/step-000000000005").ok());
  ASSERT_TRUE(Run(options).ok());
  std::set<std::string> tags;
  EXPECT_THAT(EventSteps(options, 4, &tags), ::testing::ElementsAre(1, 2, 3, 4, 5, 6, 7));
  EXPECT_THAT(tags, ::testing::IsSupersetOf({"train/loss", "train/active", "d_ap/p50", "batch/d_an",
                                             "batch/norm", "batch/hardest triplets", "weights/fc.weight"}));
  options.output = root_ + "/b";
  options.tensorboard = false;
  ASSERT_TRUE(Run(options).ok());
  EXPECT_FALSE(fs_.Exists(options.output + "/tensorboard"));
}

TEST_F(TrainCommandTest, SettingsThatCannotRunDoNotClaimTheFolder) {
  TrainOptions options = Options("a");
  options.freeze = {"no_such_layer"};
  EXPECT_THAT(Run(options).ToString(), HasSubstr("no_such_layer"));
  options.freeze.clear();
  EXPECT_TRUE(Run(options).ok());
}

TEST_F(TrainCommandTest, StopsEarlyKeepsTheBestAndSurvivesAResume) {
  testing::CatalogFixtureOptions data;
  data.identities = 12;
  data.test_identities = 6;
  const testing::CatalogFixture catalog(data);
  TrainOptions options = Options("a");
  options.schedule.steps = 40;
  options.eval_every = 1;
  options.eval_catalog = catalog.directory();
  options.early_stop = {"rank1", 2};
  options.schedule.rate = 1e-9;  // little will improve
  TrainOptions straight = options;
  straight.output = root_ + "/straight";
  ASSERT_TRUE(Run(straight).ok());
  const uint64_t end = Steps(straight).size();
  ASSERT_LT(end, 40U);
  EXPECT_EQ(ReadModelSpec(straight.output + "/model")->step, end);
  const auto best = nlohmann::json::parse(fs_.ReadFile(straight.output + "/best/best.json").value());
  EXPECT_EQ(best["metric"], "rank1");
  EXPECT_EQ(best["step"], end - 2) << "the patience is two evaluations";
  EXPECT_EQ(ReadModelSpec(best["checkpoint"].get<std::string>() + "/model")->step, end - 2);

  EXPECT_FALSE(Run(options, /*fail_at=*/end - 1).ok());
  ASSERT_TRUE(Run(options).ok());
  EXPECT_EQ(opened_at_, end - 1);
  EXPECT_EQ(Steps(options), Steps(straight));
  ASSERT_TRUE(Run(options).ok());
  EXPECT_FALSE(opened_at_.has_value()) << "it has been stopped early before";
  options.early_stop.patience = 4;
  ASSERT_TRUE(Run(options).ok());
  EXPECT_GT(Steps(options).size(), end) << "more patience goes on";
  std::set<std::string> tags;
  EventSteps(options, static_cast<int64_t>(end), &tags);
  EXPECT_EQ(tags.count("eval/rank1"), 1U);
}

TEST_F(TrainCommandTest, AMetricThatIsNotThereIsNamedAtOnce) {
  testing::CatalogFixtureOptions data;
  data.identities = 12;
  data.test_identities = 6;
  const testing::CatalogFixture catalog(data);
  TrainOptions options = Options("a");
  options.eval_every = 5;
  options.eval_catalog = catalog.directory();
  options.early_stop = {"beauty", 2};
  EXPECT_THAT(Run(options).ToString(), HasSubstr("recall@"));
}

TEST_F(TrainCommandTest, ExportedModulesComeBackEqual) {
  struct Case {
    const char* architecture;
    int channels;
    bool normalize;
  };
  for (const Case& c : {Case{"glyph_cnn", 1, true}, Case{"glyph_cnn", 3, false}, Case{"resnet18", 3, true}}) {
    ModelSpec spec;
    spec.architecture = c.architecture;
    spec.channels = c.channels;
    spec.normalize = c.normalize;
    spec.height = 40;
    spec.mean[1] = 0.25F;  // channels of different kinds
    const std::string name = absl::StrCat(root_, "/", c.architecture, c.channels);
    ASSERT_TRUE(RunInit(spec, 5, name).ok());
    const auto exported = ExportTorchScript(name, name + ".pt");
    ASSERT_TRUE(exported.ok()) << exported.status();
    // It is a TorchScript file like any other; exporting that again wraps it.
    ModelSpec plain = *exported;
    ASSERT_TRUE(RunImportTorchScript(name + ".pt", plain, name + "-imported").ok());
    EXPECT_TRUE(ExportTorchScript(name + "-imported", name + "-again.pt").ok());
    auto first = LoadEmbeddingModel(name, "cpu").value();
    auto second = LoadEmbeddingModel(name + "-imported", "cpu").value();
    for (const int64_t n : {1, 5}) {
      std::vector<uint8_t> pixels(static_cast<size_t>(n * 40 * 48 * c.channels));
      for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<uint8_t>(i * 2654435761U >> 13);
      std::vector<float> one(static_cast<size_t>(n * 128)), other(one.size());
      ASSERT_TRUE(first->Embed(pixels, n, one.data()).ok());
      ASSERT_TRUE(second->Embed(pixels, n, other.data()).ok());
      for (size_t i = 0; i < one.size(); ++i) ASSERT_NEAR(one[i], other[i], 2e-5) << name << " " << n;
    }
  }
}

TEST_F(TrainCommandTest, ExportNamesWhatIsMissing) {
  EXPECT_THAT(ExportTorchScript(root_ + "/none", root_ + "/x.pt").status().ToString(), HasSubstr("none"));
  EXPECT_FALSE(fs_.Exists(root_ + "/x.pt"));
}

}  // namespace
}  // namespace doppel
