#include "common/io/memory_file_system.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

namespace doppel {
namespace {

class CrashTest : public testing::Test {
 protected:
  std::unique_ptr<WritableFile> Create(const std::string& path) {
    return std::move(fs_.Create(path)).value();
  }
  std::string Read(const std::string& path) { return fs_.ReadFile(path).value_or("(none)"); }
  InMemoryFileSystem fs_;
};

TEST_F(CrashTest, NameIsLostWithoutSyncOfTheFolder) {
  auto file = Create("/a");
  ASSERT_TRUE(file->Append("x").ok());
  ASSERT_TRUE(file->Sync().ok());
  fs_.DropUnsynced();
  EXPECT_FALSE(fs_.Exists("/a"));
}

TEST_F(CrashTest, DataIsLostWithoutSyncOfTheFile) {
  auto file = Create("/a");
  ASSERT_TRUE(file->Append("one").ok());
  ASSERT_TRUE(file->Sync().ok());
  ASSERT_TRUE(file->Append("two").ok());
  ASSERT_TRUE(fs_.SyncDirectory("/").ok());
  fs_.DropUnsynced();
  EXPECT_EQ(Read("/a"), "one");
}

TEST_F(CrashTest, RenameIsUndoneWithoutSyncOfTheFolder) {
  for (const char* name : {"/old", "/new"}) {
    auto file = Create(name);
    ASSERT_TRUE(file->Append(name).ok());
    ASSERT_TRUE(file->Sync().ok());
  }
  ASSERT_TRUE(fs_.SyncDirectory("/").ok());
  ASSERT_TRUE(fs_.Rename("/new", "/old").ok());
  EXPECT_EQ(Read("/old"), "/new");
  fs_.DropUnsynced();
  EXPECT_EQ(Read("/old"), "/old");
  EXPECT_EQ(Read("/new"), "/new");
}

TEST_F(CrashTest, RenamedFolderKeepsItsSyncedFiles) {
  ASSERT_TRUE(fs_.MakeDirectories("/temp").ok());
  auto file = Create("/temp/file");
  ASSERT_TRUE(file->Append("x").ok());
  ASSERT_TRUE(file->Sync().ok());
  ASSERT_TRUE(fs_.SyncDirectory("/temp").ok());
  ASSERT_TRUE(fs_.Rename("/temp", "/final").ok());
  ASSERT_TRUE(fs_.SyncDirectory("/").ok());
  fs_.DropUnsynced();
  EXPECT_EQ(Read("/final/file"), "x");
  EXPECT_FALSE(fs_.Exists("/temp"));
}

TEST_F(CrashTest, RemovalIsUndoneWithoutSyncOfTheFolder) {
  auto file = Create("/a");
  ASSERT_TRUE(fs_.SyncDirectory("/").ok());
  ASSERT_TRUE(fs_.Remove("/a").ok());
  fs_.DropUnsynced();
  EXPECT_TRUE(fs_.Exists("/a"));
}

TEST_F(CrashTest, FoldersMadeAreDurable) {
  ASSERT_TRUE(fs_.MakeDirectories("/a/b").ok());
  fs_.DropUnsynced();
  EXPECT_TRUE(fs_.Exists("/a/b"));
}

TEST_F(CrashTest, OpenFilesAreCutOff) {
  auto file = Create("/a");
  ASSERT_TRUE(fs_.SyncDirectory("/").ok());
  fs_.DropUnsynced();
  ASSERT_TRUE(file->Append("late").ok());
  ASSERT_TRUE(file->Sync().ok());
  EXPECT_EQ(Read("/a"), "");
}

TEST_F(CrashTest, RelativeAndAbsoluteAreTheSameTree) {
  Create("a");
  EXPECT_TRUE(fs_.Exists("/a"));
  EXPECT_TRUE(fs_.Exists("./a"));
}

}  // namespace
}  // namespace doppel
