#include "common/io/atomic_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "common/io/fault_file_system.h"
#include "common/io/memory_file_system.h"

namespace doppel {
namespace {

using testing::AnyOf;
using testing::ElementsAre;
using Fault = FaultInjectingFileSystem::Fault;

TEST(AtomicFileTest, WritesAndReplaces) {
  InMemoryFileSystem fs;
  ASSERT_TRUE(WriteFileAtomically(fs, "/file", "one").ok());
  ASSERT_TRUE(WriteFileAtomically(fs, "/file", "two").ok());
  EXPECT_EQ(*fs.ReadFile("/file"), "two");
  EXPECT_THAT(*fs.List("/"), ElementsAre("file"));
}

TEST(AtomicFileTest, IsDurableOnReturn) {
  InMemoryFileSystem fs;
  ASSERT_TRUE(WriteFileAtomically(fs, "/file", "one").ok());
  fs.DropUnsynced();
  EXPECT_EQ(*fs.ReadFile("/file"), "one");
}

TEST(AtomicFileTest, WorksOnDisk) {
  const std::string path = testing::TempDir() + "/doppel_atomic_file";
  ASSERT_TRUE(WriteFileAtomically(PosixFileSystem(), path, "x").ok());
  EXPECT_EQ(*PosixFileSystem().ReadFile(path), "x");
  EXPECT_FALSE(PosixFileSystem().Exists(path + ".tmp"));
  EXPECT_TRUE(PosixFileSystem().Remove(path).ok());
}

TEST(AtomicFileTest, MissingFolderIsAnError) {
  InMemoryFileSystem fs;
  EXPECT_EQ(WriteFileAtomically(fs, "/none/file", "x").code(), absl::StatusCode::kNotFound);
}

constexpr uint64_t kCalls = 6;  // create, append, sync, close, rename, sync of the folder

TEST(AtomicFileTest, TakesThatManyCalls) {
  InMemoryFileSystem memory;
  FaultInjectingFileSystem fs(memory);
  ASSERT_TRUE(WriteFileAtomically(fs, "/file", "x").ok());
  EXPECT_EQ(fs.calls(), kCalls);
}

// Parameter: the call that fails.
class AtomicFileFaultTest : public testing::TestWithParam<uint64_t> {
 protected:
  AtomicFileFaultTest() {
    EXPECT_TRUE(WriteFileAtomically(memory_, "/file", "old content").ok());
    fault_.call = GetParam();
    fault_.short_write = 0.5;
  }
  InMemoryFileSystem memory_;
  FaultInjectingFileSystem fs_{memory_};
  Fault fault_;
};

INSTANTIATE_TEST_SUITE_P(Calls, AtomicFileFaultTest, testing::Range<uint64_t>(0, kCalls));

TEST_P(AtomicFileFaultTest, ErrorLeavesOldOrNewAndNoTemporary) {
  fs_.Inject(fault_);
  EXPECT_FALSE(WriteFileAtomically(fs_, "/file", "new content").ok());
  EXPECT_THAT(*memory_.ReadFile("/file"), AnyOf("old content", "new content"));
  EXPECT_THAT(*memory_.List("/"), ElementsAre("file"));
}

TEST_P(AtomicFileFaultTest, CrashLeavesOldOrNew) {
  fault_.lasting = FaultInjectingFileSystem::Lasting::kForGood;
  fs_.Inject(fault_);
  EXPECT_FALSE(WriteFileAtomically(fs_, "/file", "new content").ok());
  memory_.DropUnsynced();
  EXPECT_EQ(*memory_.ReadFile("/file"), "old content");
}

TEST_P(AtomicFileFaultTest, KilledProcessLeavesOldOrNewAndWritesAgain) {
  fault_.lasting = FaultInjectingFileSystem::Lasting::kForGood;
  fs_.Inject(fault_);
  EXPECT_FALSE(WriteFileAtomically(fs_, "/file", "new content").ok());
  EXPECT_THAT(*memory_.ReadFile("/file"), AnyOf("old content", "new content"));
  ASSERT_TRUE(WriteFileAtomically(memory_, "/file", "newest").ok());
  EXPECT_EQ(*memory_.ReadFile("/file"), "newest");
}

}  // namespace
}  // namespace doppel
