#include "common/base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_split.h"

namespace doppel {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::IsEmpty;

class LogTest : public testing::Test {
 protected:
  void TearDown() override { ASSERT_TRUE(SetupLogging("doppel", "info", "text").ok()); }

  template <typename Body>
  static std::string Captured(Body body) {
    testing::internal::CaptureStderr();
    body();
    return testing::internal::GetCapturedStderr();
  }
};

TEST_F(LogTest, TextHasTimeLevelProgramAndPlace) {
  ASSERT_TRUE(SetupLogging("doppel-miner", "info", "text").ok());
  const std::string line = Captured([] { DOPPEL_LOG(kInfo, "imported ", 3, " samples"); });
  EXPECT_THAT(line,
              ContainsRegex("^[0-9-]+T[0-9:.]+Z I doppel-miner log_test.cc:[0-9]+\\] imported 3 samples\n$"));
}

TEST_F(LogTest, BelowTheLevelIsSilent) {
  ASSERT_TRUE(SetupLogging("doppel", "warning", "text").ok());
  EXPECT_THAT(Captured([] {
                DOPPEL_LOG(kDebug, "a");
                DOPPEL_LOG(kInfo, "b");
              }),
              IsEmpty());
  EXPECT_THAT(Captured([] { DOPPEL_LOG(kWarning, "c"); }), HasSubstr(" W "));
}

TEST_F(LogTest, DebugLevelShowsDebug) {
  ASSERT_TRUE(SetupLogging("doppel", "debug", "text").ok());
  EXPECT_THAT(Captured([] { DOPPEL_LOG(kDebug, "fine"); }), HasSubstr("fine"));
}

TEST_F(LogTest, MessagesAreNotFormatStrings) {
  EXPECT_THAT(Captured([] { DOPPEL_LOG(kError, "{} %s {0}"); }), HasSubstr("{} %s {0}"));
}

TEST_F(LogTest, JsonLinesParse) {
  ASSERT_TRUE(SetupLogging("doppel-miner", "info", "json").ok());
  const std::string line = Captured([] { DOPPEL_LOG(kError, "a \"quoted\"\nline \\ of text"); });
  const nlohmann::json parsed = nlohmann::json::parse(line);
  EXPECT_EQ(parsed["message"], "a \"quoted\"\nline \\ of text");
  EXPECT_EQ(parsed["program"], "doppel-miner");
  EXPECT_EQ(parsed["level"], "error");
  EXPECT_THAT(parsed["source"].get<std::string>(), HasSubstr("log_test.cc:"));
}

TEST_F(LogTest, JsonSurvivesBrokenUtf8) {
  ASSERT_TRUE(SetupLogging("doppel", "info", "json").ok());
  const std::string line = Captured([] { DOPPEL_LOG(kInfo, "bad \xff byte"); });
  EXPECT_TRUE(nlohmann::json::accept(line)) << line;
}

TEST_F(LogTest, UnknownLevelAndFormatAreRefused) {
  const absl::Status level = SetupLogging("doppel", "loud", "text");
  EXPECT_EQ(level.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(level.message()), HasSubstr("debug, info, warning or error"));
  EXPECT_EQ(SetupLogging("doppel", "info", "xml").code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(LogTest, ThreadsDoNotMixTheirLines) {
  const std::string text = Captured([] {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([] {
        for (int i = 0; i < 50; ++i) DOPPEL_LOG(kInfo, "one whole line");
      });
    }
    for (std::thread& thread : threads) thread.join();
  });
  const std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  EXPECT_EQ(lines.size(), 200U);
  for (const std::string& line : lines) EXPECT_THAT(line, testing::EndsWith("] one whole line"));
}

}  // namespace
}  // namespace doppel
