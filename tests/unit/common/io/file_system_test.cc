// The contract of FileSystem, run by every implementation.
#include "common/io/file_system.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "common/io/fault_file_system.h"
#include "common/io/memory_file_system.h"

namespace doppel {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

enum class Kind { kPosix, kMemory, kFault };

class FileSystemTest : public testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    switch (GetParam()) {
      case Kind::kPosix: {
        std::string pattern = testing::TempDir() + "/doppel_fs_XXXXXX";
        ASSERT_NE(mkdtemp(pattern.data()), nullptr);
        dir_ = pattern;
        fs_ = &PosixFileSystem();
        break;
      }
      case Kind::kMemory:
        fs_ = &memory_;
        break;
      case Kind::kFault:
        fs_ = &fault_;
        break;
    }
    ASSERT_TRUE(fs_->MakeDirectories(dir_).ok());
  }
  void TearDown() override { EXPECT_TRUE(fs_->RemoveRecursively(dir_).ok()); }

  std::string Path(const std::string& name) const { return dir_ + "/" + name; }
  void Write(const std::string& name, absl::string_view data) {
    auto file = fs_->Create(Path(name));
    ASSERT_TRUE(file.ok()) << file.status();
    ASSERT_TRUE((*file)->Append(data).ok());
    ASSERT_TRUE((*file)->Close().ok());
  }
  std::string Read(const std::string& name) {
    auto data = fs_->ReadFile(Path(name));
    return data.ok() ? *data : data.status().ToString();
  }

  InMemoryFileSystem memory_;
  FaultInjectingFileSystem fault_{memory_};
  FileSystem* fs_ = nullptr;
  std::string dir_ = "/work";
};

INSTANTIATE_TEST_SUITE_P(All, FileSystemTest, testing::Values(Kind::kPosix, Kind::kMemory, Kind::kFault),
                         [](const auto& info) {
                           return info.param == Kind::kPosix    ? "Posix"
                                  : info.param == Kind::kMemory ? "Memory"
                                                                : "Fault";
                         });

TEST_P(FileSystemTest, LinkOrCopyGivesAFileASecondName) {
  Write("a", "what it holds");
  ASSERT_TRUE(fs_->LinkOrCopy(Path("a"), Path("b")).ok());
  EXPECT_EQ(Read("b"), "what it holds");
  EXPECT_EQ(fs_->LinkOrCopy(Path("a"), Path("b")).code(), absl::StatusCode::kAlreadyExists);
  ASSERT_TRUE(fs_->Remove(Path("a")).ok());
  EXPECT_EQ(Read("b"), "what it holds");
  EXPECT_EQ(fs_->LinkOrCopy(Path("gone"), Path("c")).code(), absl::StatusCode::kNotFound);
}

TEST_P(FileSystemTest, ReadsWhatWasWritten) {
  const std::string data = std::string("a\0b\n", 4) + std::string(10000, 'x');
  Write("file", data);
  EXPECT_EQ(Read("file"), data);
  EXPECT_EQ(*fs_->Size(Path("file")), data.size());
}

TEST_P(FileSystemTest, EmptyFileIsEmpty) {
  Write("file", "");
  EXPECT_EQ(Read("file"), "");
  EXPECT_EQ(*fs_->Size(Path("file")), 0U);
}

TEST_P(FileSystemTest, CreateTruncates) {
  Write("file", "long content");
  Write("file", "short");
  EXPECT_EQ(Read("file"), "short");
}

TEST_P(FileSystemTest, OpenAppendAppendsAndCreates) {
  for (const char* part : {"one ", "two"}) {
    auto file = fs_->OpenAppend(Path("file"));
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE((*file)->Append(part).ok());
    ASSERT_TRUE((*file)->Sync().ok());
  }
  EXPECT_EQ(Read("file"), "one two");
}

TEST_P(FileSystemTest, ClosedFileRefusesAppend) {
  auto file = fs_->Create(Path("file"));
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE((*file)->Close().ok());
  EXPECT_FALSE((*file)->Append("x").ok());
  EXPECT_FALSE((*file)->Sync().ok());
}

TEST_P(FileSystemTest, MissingFileIsNotFoundAndNamed) {
  const absl::Status status = fs_->ReadFile(Path("none")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr(Path("none")));
  EXPECT_EQ(fs_->Size(Path("none")).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(fs_->Remove(Path("none")).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(fs_->List(Path("none")).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(fs_->Rename(Path("none"), Path("x")).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(fs_->Truncate(Path("none"), 0).code(), absl::StatusCode::kNotFound);
}

TEST_P(FileSystemTest, CreateInMissingFolderFails) {
  EXPECT_EQ(fs_->Create(Path("none/file")).status().code(), absl::StatusCode::kNotFound);
}

TEST_P(FileSystemTest, RenameReplaces) {
  Write("a", "new");
  Write("b", "old");
  ASSERT_TRUE(fs_->Rename(Path("a"), Path("b")).ok());
  EXPECT_EQ(Read("b"), "new");
  EXPECT_FALSE(fs_->Exists(Path("a")));
}

TEST_P(FileSystemTest, RenameMovesFolders) {
  ASSERT_TRUE(fs_->MakeDirectories(Path("temp")).ok());
  Write("temp/file", "x");
  ASSERT_TRUE(fs_->Rename(Path("temp"), Path("final")).ok());
  EXPECT_EQ(Read("final/file"), "x");
  EXPECT_FALSE(fs_->Exists(Path("temp")));
}

TEST_P(FileSystemTest, RenameDoesNotReplaceAFullFolder) {
  ASSERT_TRUE(fs_->MakeDirectories(Path("a")).ok());
  ASSERT_TRUE(fs_->MakeDirectories(Path("b")).ok());
  Write("b/file", "x");
  EXPECT_FALSE(fs_->Rename(Path("a"), Path("b")).ok());
  EXPECT_EQ(Read("b/file"), "x");
}

TEST_P(FileSystemTest, MakeDirectoriesMakesParentsAndIsIdempotent) {
  ASSERT_TRUE(fs_->MakeDirectories(Path("a/b/c")).ok());
  ASSERT_TRUE(fs_->MakeDirectories(Path("a/b/c")).ok());
  EXPECT_TRUE(fs_->Exists(Path("a/b/c")));
}

TEST_P(FileSystemTest, MakeDirectoriesOverAFileFails) {
  Write("a", "x");
  EXPECT_EQ(fs_->MakeDirectories(Path("a")).code(), absl::StatusCode::kAlreadyExists);
}

TEST_P(FileSystemTest, ListIsSortedNamesOnly) {
  Write("b", "");
  Write("a", "");
  ASSERT_TRUE(fs_->MakeDirectories(Path("c")).ok());
  Write("c/inner", "");
  EXPECT_THAT(*fs_->List(dir_), ElementsAre("a", "b", "c"));
}

TEST_P(FileSystemTest, RemoveRefusesFullFolders) {
  ASSERT_TRUE(fs_->MakeDirectories(Path("a")).ok());
  Write("a/file", "");
  EXPECT_FALSE(fs_->Remove(Path("a")).ok());
  ASSERT_TRUE(fs_->Remove(Path("a/file")).ok());
  EXPECT_TRUE(fs_->Remove(Path("a")).ok());
}

TEST_P(FileSystemTest, RemoveRecursivelyRemovesAllAndForgivesNothingThere) {
  ASSERT_TRUE(fs_->MakeDirectories(Path("a/b")).ok());
  Write("a/b/file", "x");
  ASSERT_TRUE(fs_->RemoveRecursively(Path("a")).ok());
  EXPECT_FALSE(fs_->Exists(Path("a")));
  EXPECT_TRUE(fs_->RemoveRecursively(Path("a")).ok());
}

TEST_P(FileSystemTest, TruncateCuts) {
  Write("file", "abcdef");
  ASSERT_TRUE(fs_->Truncate(Path("file"), 2).ok());
  EXPECT_EQ(Read("file"), "ab");
}

TEST_P(FileSystemTest, SyncDirectoryWorks) {
  EXPECT_TRUE(fs_->SyncDirectory(dir_).ok());
  EXPECT_FALSE(fs_->SyncDirectory(Path("none")).ok());
}

TEST(DirectoryOfTest, Cases) {
  EXPECT_EQ(DirectoryOf("a/b/c"), "a/b");
  EXPECT_EQ(DirectoryOf("c"), ".");
  EXPECT_EQ(DirectoryOf("/c"), "/");
  EXPECT_EQ(DirectoryOf("/"), "/");
  EXPECT_EQ(DirectoryOf("a/b/"), "a");
  EXPECT_EQ(DirectoryOf("a//b"), "a");
}

TEST(PosixFileSystemTest, IsOne) { EXPECT_EQ(&PosixFileSystem(), &PosixFileSystem()); }

TEST(PosixFileSystemTest, FullDiskIsResourceExhausted) {
  auto file = PosixFileSystem().OpenAppend("/dev/full");
  if (!file.ok()) GTEST_SKIP() << "no /dev/full here";
  const absl::Status status = (*file)->Append("x");
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("free some space"));
}

TEST(PosixFileSystemTest, ReadsFilesThatStateNoSize) {
  auto data = PosixFileSystem().ReadFile("/proc/self/status");
  ASSERT_TRUE(data.ok());
  EXPECT_THAT(*data, HasSubstr("Pid:"));
}

}  // namespace
}  // namespace doppel
