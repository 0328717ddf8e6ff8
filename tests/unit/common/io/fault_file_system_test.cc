#include "common/io/fault_file_system.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "common/io/memory_file_system.h"

namespace doppel {
namespace {

using Fault = FaultInjectingFileSystem::Fault;
using Error = FaultInjectingFileSystem::Error;
using Lasting = FaultInjectingFileSystem::Lasting;

class FaultTest : public testing::Test {
 protected:
  InMemoryFileSystem memory_;
  FaultInjectingFileSystem fs_{memory_};
};

TEST_F(FaultTest, CountsMutatingCallsAlone) {
  auto file = std::move(fs_.Create("/a")).value();
  EXPECT_TRUE(file->Append("x").ok());
  EXPECT_TRUE(file->Sync().ok());
  EXPECT_TRUE(file->Close().ok());
  EXPECT_EQ(fs_.calls(), 4U);
  fs_.ReadFile("/a").IgnoreError();
  fs_.List("/").IgnoreError();
  fs_.Size("/a").IgnoreError();
  fs_.Exists("/a");
  EXPECT_EQ(fs_.calls(), 4U);
}

TEST_F(FaultTest, FailsOneCallAlone) {
  Fault fault;
  fault.call = 1;
  fs_.Inject(fault);
  EXPECT_TRUE(fs_.MakeDirectories("/a").ok());
  EXPECT_FALSE(fs_.MakeDirectories("/b").ok());
  EXPECT_TRUE(fs_.MakeDirectories("/c").ok());
  EXPECT_FALSE(memory_.Exists("/b"));
  EXPECT_TRUE(memory_.Exists("/c"));
}

TEST_F(FaultTest, FailsForGood) {
  Fault fault;
  fault.call = 1;
  fault.lasting = Lasting::kForGood;
  fs_.Inject(fault);
  EXPECT_TRUE(fs_.MakeDirectories("/a").ok());
  EXPECT_FALSE(fs_.MakeDirectories("/b").ok());
  EXPECT_FALSE(fs_.MakeDirectories("/c").ok());
  fs_.Clear();
  EXPECT_TRUE(fs_.MakeDirectories("/c").ok());
}

TEST_F(FaultTest, ErrorsLookLikeTheReal) {
  Fault fault;
  fault.error = Error::kNoSpace;
  fs_.Inject(fault);
  EXPECT_EQ(fs_.Create("/a").status().code(), absl::StatusCode::kResourceExhausted);
  fault.error = Error::kIo;
  fault.call = 1;
  fs_.Inject(fault);
  const absl::Status status = fs_.Create("/a").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnknown);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("cannot create /a"));
}

TEST_F(FaultTest, ShortWriteLeavesAPart) {
  auto file = std::move(fs_.Create("/a")).value();
  Fault fault;
  fault.call = 1;
  fault.short_write = 0.5;
  fs_.Inject(fault);
  EXPECT_FALSE(file->Append("abcdef").ok());
  EXPECT_EQ(*memory_.ReadFile("/a"), "abc");
}

TEST_F(FaultTest, EveryMutatingCallCanFail) {
  auto file = std::move(fs_.Create("/a")).value();
  Fault fault;
  fault.call = 1;
  fault.lasting = Lasting::kForGood;
  fs_.Inject(fault);
  EXPECT_FALSE(file->Append("x").ok());
  EXPECT_FALSE(file->Sync().ok());
  EXPECT_FALSE(file->Close().ok());
  EXPECT_FALSE(fs_.Create("/b").ok());
  EXPECT_FALSE(fs_.OpenAppend("/a").ok());
  EXPECT_FALSE(fs_.Rename("/a", "/b").ok());
  EXPECT_FALSE(fs_.SyncDirectory("/").ok());
  EXPECT_FALSE(fs_.MakeDirectories("/c").ok());
  EXPECT_FALSE(fs_.Remove("/a").ok());
  EXPECT_FALSE(fs_.RemoveRecursively("/a").ok());
  EXPECT_FALSE(fs_.Truncate("/a", 0).ok());
  EXPECT_EQ(fs_.calls(), 12U);
  EXPECT_EQ(*fs_.ReadFile("/a"), "");
}

}  // namespace
}  // namespace doppel
