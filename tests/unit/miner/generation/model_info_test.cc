#include "miner/generation/model_info.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/io/memory_file_system.h"

namespace doppel {
namespace {

using testing::HasSubstr;

absl::StatusOr<ModelInfo> Read(const std::string& json) {
  InMemoryFileSystem fs;
  EXPECT_TRUE(fs.MakeDirectories("/model").ok());
  EXPECT_TRUE((*fs.Create("/model/model.json"))->Append(json).ok());
  return ReadModelInfo(fs, "/model");
}

TEST(ModelInfoTest, ReadsItsFieldsAndLeavesTheOthersAlone) {
  const auto info =
      Read(R"({"architecture": "x", "fingerprint": "abc", "dimension": 128, "step": 42, "new": []})");
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->fingerprint, "abc");
  EXPECT_EQ(info->dimension, 128);
  EXPECT_EQ(info->step, 42U);
}

TEST(ModelInfoTest, AMissingDirectoryIsNamed) {
  InMemoryFileSystem fs;
  const absl::Status status = ReadModelInfo(fs, "/nowhere").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/nowhere/model.json"));
}

TEST(ModelInfoTest, BadContentIsNamed) {
  for (const char* json :
       {"", "{", "[]", "3", "{}", R"({"fingerprint": 3, "dimension": 1})",
        R"({"fingerprint": "", "dimension": 1})", R"({"fingerprint": "a"})",
        R"({"fingerprint": "a", "dimension": 0})", R"({"fingerprint": "a", "dimension": 1.5})",
        R"({"fingerprint": "a", "dimension": 99999999})",
        R"({"fingerprint": "a", "dimension": 1, "step": -1})",
        R"({"fingerprint": "a", "dimension": 1, "step": "x"})"}) {
    const absl::Status status = Read(json).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << json;
    EXPECT_THAT(std::string(status.message()), HasSubstr("/model/model.json")) << json;
  }
}

}  // namespace
}  // namespace doppel
