#include "miner/generation/state_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "tests/unit/miner/generation/mining_fixture.h"

namespace doppel {
namespace {

using testing::HasSubstr;

TEST(StateLockTest, OneHolderAtATime) {
  TemporaryDirectory directory;
  auto first = StateLock::Acquire(directory.path());
  ASSERT_TRUE(first.ok()) << first.status();
  const absl::Status second = StateLock::Acquire(directory.path()).status();
  EXPECT_EQ(second.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(second.message()), HasSubstr(directory.path()));
  EXPECT_THAT(std::string(second.message()), HasSubstr(absl::StrCat("process ", getpid())));
  first->reset();
  EXPECT_TRUE(StateLock::Acquire(directory.path()).ok());
}

TEST(StateLockTest, DirectoriesDoNotShareALock) {
  TemporaryDirectory a;
  TemporaryDirectory b;
  auto first = StateLock::Acquire(a.path());
  EXPECT_TRUE(StateLock::Acquire(b.path()).ok());
}

TEST(StateLockTest, AMissingDirectoryIsAnError) {
  EXPECT_FALSE(StateLock::Acquire("/nonexistent/directory").ok());
}

}  // namespace
}  // namespace doppel
