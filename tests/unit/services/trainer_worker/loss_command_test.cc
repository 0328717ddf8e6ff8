#include "services/trainer_worker/loss_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "common/io/npy.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;

class LossCommandTest : public ::testing::Test {
 protected:
  LossCommandTest() : fs_(MakeInMemoryFileSystem()) {
    options_.embeddings = "/e.npy";
    options_.labels = "/y.npy";
    options_.loss = "batch_hard";
    options_.margin = "2.5";
    options_.output = "json";
    // On a line: 0, 1 | 3, 7.
    Write<double>("/e.npy", {4, 1}, {0, 1, 3, 7});
    Write<int64_t>("/y.npy", {4}, {5, 5, 9, 9});
  }

  template <typename T>
  void Write(const std::string& path, std::vector<int64_t> shape, std::vector<T> values) {
    ASSERT_TRUE(WriteNpy(*fs_, path, shape, absl::MakeConstSpan(values)).ok());
  }

  nlohmann::json Run() {
    const absl::StatusOr<std::string> text = RunLoss(options_, *fs_);
    EXPECT_TRUE(text.ok()) << text.status();
    return text.ok() ? nlohmann::json::parse(*text) : nlohmann::json();
  }
  std::string Error() { return RunLoss(options_, *fs_).status().ToString(); }

  const std::unique_ptr<FileSystem> fs_;
  LossCommandOptions options_;
};

TEST_F(LossCommandTest, PrintsValueActiveAndPercentiles) {
  // Hardest: (1, 3), (1, 2), (4, 2), (4, 6).
  const nlohmann::json json = Run();
  EXPECT_NEAR(json["value"].get<double>(), (0.5 + 1.5 + 4.5 + 0.5) / 4, 1e-9);
  EXPECT_EQ(json["active"], 1.0);
  EXPECT_EQ(json["triplets"], 4);
  EXPECT_NEAR(json["percentiles"]["d_ap"]["p0"].get<double>(), 1, 1e-6);
  EXPECT_NEAR(json["percentiles"]["d_an"]["p100"].get<double>(), 6, 1e-6);
  EXPECT_NEAR(json["percentiles"]["norm"]["p50"].get<double>(), 2, 1e-6);
}

TEST_F(LossCommandTest, WritesTheGradientInTheTypeOfTheEmbeddings) {
  options_.gradient = "/g.npy";
  Run();
  const NpyArray gradient = ReadNpy(*fs_, "/g.npy").value();
  EXPECT_EQ(gradient.dtype, "<f8");
  EXPECT_EQ(gradient.shape, (std::vector<int64_t>{4, 1}));
  // d(0,1) twice, d(3,7) twice; minus d(0,3), d(1,3) twice, d(7,1).
  std::vector<double> values(4);
  std::memcpy(values.data(), gradient.data.data(), gradient.data.size());
  const std::vector<double> expected = {-0.25, 1.25, -1.25, 0.25};
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(values[i], expected[i], 1e-9) << i;
  Write<float>("/e.npy", {4, 1}, {0, 1, 3, 7});
  Run();
  EXPECT_EQ(ReadNpy(*fs_, "/g.npy")->dtype, "<f4");
}

TEST_F(LossCommandTest, NumbersKeepAllTheirDigits) {
  Write<double>("/e.npy", {4, 1}, {0, 1 + 1e-12, 3, 7});
  options_.distance = "squared";
  options_.margin = "0";
  options_.loss = "improved_triplet";
  const double value = Run()["value"];
  // a = 0, 1 | p at 1 + 2e-12; a = 3, 7 | p at 16; hinge only for a = 3: 16 - 9 and 16 - (2 - 1e-12)^2.
  EXPECT_NEAR(value, (4 * (1 + 2e-12) + 4 * 16 + 7 + 12 + 4e-12) / 8, 1e-13);
}

TEST_F(LossCommandTest, TakesOptionsAndTriplets) {
  Write<int64_t>("/t.npy", {2, 3}, {0, 1, 2, 3, 2, 0});
  options_.triplets = "/t.npy";
  for (const char* name : {"triplet", "improved_triplet"}) {
    options_.loss = name;
    options_.options = {"pull=0"};
    const nlohmann::json json = Run();
    EXPECT_NEAR(json["value"].get<double>(), (0.5 + 0) / 2, 1e-9) << name;
    EXPECT_EQ(json["triplets"], 2) << name;
    EXPECT_EQ(json["active"], 0.5) << name;
  }
}

TEST_F(LossCommandTest, EveryLossOfTheListRunsInBothPrecisions) {
  for (const char* name : {"contrastive",
                           "lmnn",
                           "triplet",
                           "improved_triplet",
                           "quadruplet",
                           "batch_all",
                           "batch_all_nonzero",
                           "batch_hard",
                           "lifted",
                           "lifted_pxk",
                           "adaptive_weights",
                           "msml",
                           "ohnm",
                           "batch_ohnm",
                           "semi_hard",
                           "semi_hard_random",
                           "softmax_sampled",
                           "id_softmax",
                           "verification",
                           "joint"}) {
    options_.loss = name;
    options_.options = {"classes=8"};
    options_.gradient = "/g.npy";
    Write<int64_t>("/y.npy", {6}, {1, 1, 2, 2, 3, 3});
    Write<double>("/e.npy", {6, 2}, {0, 1, 1, 1, 3, 2, 3, 3, 5, 1, 4, 0});
    const double exact = Run()["value"];
    Write<float>("/e.npy", {6, 2}, {0, 1, 1, 1, 3, 2, 3, 3, 5, 1, 4, 0});
    EXPECT_NEAR(Run()["value"].get<double>(), exact, 1e-5 * std::max(1.0, std::abs(exact))) << name;
  }
}

TEST_F(LossCommandTest, ErrorsNameFlagAndFile) {
  options_.options = {"negatives"};
  EXPECT_THAT(Error(), HasSubstr("key=value"));
  options_.options = {};
  options_.loss = "magic";
  EXPECT_THAT(Error(), HasSubstr("\"magic\""));
  options_.loss = "batch_hard";
  options_.output = "xml";
  EXPECT_THAT(Error(), HasSubstr("--output xml"));
  options_.output = "json";
  Write<int64_t>("/y.npy", {3}, {5, 5, 9});
  EXPECT_THAT(Error(), HasSubstr("--labels /y.npy: 4 labels"));
  Write<float>("/y.npy", {4}, {5, 5, 9, 9});
  EXPECT_THAT(Error(), HasSubstr("--labels /y.npy: dtype <f4"));
  Write<int64_t>("/e.npy", {4, 1}, {5, 5, 9, 9});
  EXPECT_THAT(Error(), HasSubstr("--embeddings /e.npy"));
  options_.embeddings = "/missing.npy";
  EXPECT_THAT(Error(), HasSubstr("/missing.npy"));
}

TEST_F(LossCommandTest, NanIsAClearError) {
  Write<double>("/e.npy", {4, 1}, {0, NAN, 3, 7});
  EXPECT_THAT(Error(), HasSubstr("1 of 4 embeddings are NaN"));
}

TEST_F(LossCommandTest, TableHasTheSameNumbers) {
  options_.output = "table";
  const std::string text = RunLoss(options_, *fs_).value();
  EXPECT_THAT(text, HasSubstr("value      1.75"));
  EXPECT_THAT(text, HasSubstr("d_an"));
}

TEST(LossCommandLineTest, ReadsItsFlags) {
  CLI::App app;
  LossCommandOptions options;
  const CLI::App* command = AddLossCommand(app, &options);
  app.parse(
      "loss --embeddings e.npy --labels y.npy --loss lmnn --distance cosine --margin 0.2 --option mu=0.3 "
      "--option target_neighbours=2 --gradient g.npy -o json");
  EXPECT_TRUE(command->parsed());
  EXPECT_EQ(options.loss, "lmnn");
  EXPECT_EQ(options.options, (std::vector<std::string>{"mu=0.3", "target_neighbours=2"}));
  EXPECT_EQ(options.output, "json");
  EXPECT_EQ(options.gradient, "g.npy");
  EXPECT_THAT(app.help("", CLI::AppFormatMode::All), HasSubstr("target_neighbours"));
}

}  // namespace
}  // namespace doppel
