#include "trainer/train/steps_log.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "trainer/train/step_record.h"

namespace doppel {
namespace {

class StepsLogTest : public ::testing::Test {
 protected:
  void Put(const std::string& text) {
    auto file = fs_->Create("steps.jsonl").value();
    ASSERT_TRUE(file->Append(text).ok());
    ASSERT_TRUE(file->Close().ok());
  }
  std::string OpenAndAppend(uint64_t last_step, const std::string& line) {
    auto log = StepsLog::Open(*fs_, "steps.jsonl", last_step);
    EXPECT_TRUE(log.ok()) << log.status();
    EXPECT_TRUE((*log)->Append(line).ok());
    EXPECT_TRUE((*log)->Sync().ok());
    return fs_->ReadFile("steps.jsonl").value();
  }
  std::unique_ptr<FileSystem> fs_ = MakeInMemoryFileSystem();
};

TEST_F(StepsLogTest, StartsAFile) { EXPECT_EQ(OpenAndAppend(0, "{\"step\":1}"), "{\"step\":1}\n"); }

TEST_F(StepsLogTest, CutsLinesOfLaterSteps) {
  Put("{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"step\":10}\n");
  EXPECT_EQ(OpenAndAppend(2, "{\"step\":3,\"again\":1}"),
            "{\"step\":1}\n{\"step\":2}\n{\"step\":3,\"again\":1}\n");
}

TEST_F(StepsLogTest, KeepsEverythingUpToTheStep) {
  Put("{\"step\":1}\n{\"step\":2}\n");
  EXPECT_EQ(OpenAndAppend(2, "{\"step\":3}"), "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n");
}

TEST_F(StepsLogTest, CutsATornLine) {
  Put("{\"step\":1}\n{\"step\":2,\"lo");
  EXPECT_EQ(OpenAndAppend(9, "{\"step\":2}"), "{\"step\":1}\n{\"step\":2}\n");
  Put("{\"step\":1}\n{\"step\":2,\"lo\n");
  EXPECT_EQ(OpenAndAppend(9, "{\"step\":2}"), "{\"step\":1}\n{\"step\":2}\n");
}

TEST_F(StepsLogTest, FreshRunEmptiesTheFile) {
  Put("{\"step\":1}\n{\"step\":2}\n");
  EXPECT_EQ(OpenAndAppend(0, "{\"step\":1}"), "{\"step\":1}\n");
}

TEST(StepRecordTest, HoldsTheFieldsThatReportsRead) {
  StepRecord record;
  record.step = 7;
  record.statistics.loss.loss = 0.25;
  record.statistics.loss.d_an.p95 = 1.5;
  record.statistics.grad_norm = 3;
  record.subspace = 12;
  const nlohmann::json json = nlohmann::json::parse(ToJsonLine(record));
  std::vector<std::string> keys;
  const auto ordered = nlohmann::ordered_json::parse(ToJsonLine(record));
  for (const auto& [key, value] : ordered.items()) keys.push_back(key);
  EXPECT_EQ(keys,
            (std::vector<std::string>{"step", "loss", "active", "d_ap", "d_an", "norm", "lr", "grad_norm",
                                      "images_per_second", "wait_seconds", "step_seconds", "generation",
                                      "cursor", "epoch", "subspace", "mean_similarity", "max_similarity"}));
  EXPECT_EQ(json["step"], 7);
  EXPECT_EQ(json["loss"], 0.25);
  EXPECT_EQ(json["d_an"]["p95"], 1.5);
  EXPECT_EQ(json["subspace"], 12);
  EXPECT_EQ(json["norm"].size(), 5U);
}

}  // namespace
}  // namespace doppel
