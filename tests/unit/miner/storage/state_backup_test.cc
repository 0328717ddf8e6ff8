#include "miner/storage/state_backup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "tests/unit/miner/storage/state_fixture.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class StateBackupTest : public StateFixture {
 protected:
  const std::string backup_ = dir_ / "backup";
};

TEST_F(StateBackupTest, ComesBackAsItWas) {
  const auto summary = BackUpState(fs_, state_, backup_, {});
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_GT(summary->linked, 0U);
  EXPECT_EQ(summary->check.active, 2U);
  const std::string restored = dir_ / "restored/state";
  const auto back = RestoreState(fs_, backup_, restored);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->linked, 0U);
  EXPECT_THAT(back->check.findings, IsEmpty());
  const std::string newest = "/live/0000000002";
  for (const std::string& file : Files()) {
    if (absl::StrContains(file, "/live/") && !absl::StartsWith(file, newest)) continue;
    EXPECT_EQ(fs_.ReadFile(restored + file).value(), fs_.ReadFile(state_ + file).value()) << file;
  }
}

TEST_F(StateBackupTest, ACopySharesNothingAndMayLeaveRepresentationsOut) {
  BackupOptions options;
  options.link = false;
  options.representations = false;
  const auto summary = BackUpState(fs_, state_, backup_ + "/", options);
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(summary->linked, 0U);
  EXPECT_FALSE(fs_.Exists(backup_ + "/representations"));
}

TEST_F(StateBackupTest, WhatIsNotPublishedAndUnfinishedRecordsStayBehind) {
  ASSERT_TRUE(fs_.MakeDirectories(state_ + "/generations/000009").ok());
  const std::string good = fs_.ReadFile(state_ + "/journal.rec").value();
  Write(state_ + "/journal.rec", good + "half");
  ASSERT_TRUE(BackUpState(fs_, state_, backup_, {}).ok());
  EXPECT_EQ(fs_.ReadFile(backup_ + "/journal.rec").value(), good);
  EXPECT_FALSE(fs_.Exists(backup_ + "/generations/000009"));
}

TEST_F(StateBackupTest, NothingIsOverwritten) {
  Write(dir_ / "file", "x");
  EXPECT_TRUE(absl::IsAlreadyExists(RestoreState(fs_, state_, dir_.path() + "/").status()));
  EXPECT_TRUE(absl::IsAlreadyExists(BackUpState(fs_, state_, dir_.path(), {}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(BackUpState(fs_, state_, state_ + "/backup", {}).status()));
  EXPECT_TRUE(absl::IsNotFound(BackUpState(fs_, dir_ / "nothing", backup_, {}).status()));
  ASSERT_TRUE(fs_.MakeDirectories(backup_).ok());
  EXPECT_TRUE(BackUpState(fs_, state_, backup_, {}).ok()) << "an empty folder is fine";
}

TEST_F(StateBackupTest, DamageIsNotCopied) {
  ASSERT_TRUE(BackUpState(fs_, state_, backup_, {}).ok());
  for (const std::string& root : {state_, backup_}) {
    Write(root + "/generations/000001/members.u32", "garbage");
  }
  const absl::Status backed = BackUpState(fs_, state_, dir_ / "other", {}).status();
  EXPECT_TRUE(absl::IsDataLoss(backed));
  EXPECT_THAT(std::string(backed.message()), HasSubstr("000001/members.u32"));
  EXPECT_FALSE(fs_.Exists(dir_ / "other"));
  EXPECT_FALSE(fs_.Exists(dir_ / "other.tmp"));
  const absl::Status restored = RestoreState(fs_, backup_, dir_ / "other").status();
  EXPECT_TRUE(absl::IsDataLoss(restored));
  EXPECT_THAT(std::string(restored.message()), HasSubstr("members.u32"));
}

}  // namespace
}  // namespace doppel
