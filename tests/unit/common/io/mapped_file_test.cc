#include "common/io/mapped_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "common/io/atomic_file.h"

namespace doppel {
namespace {

class MappedFileTest : public testing::Test {
 protected:
  void TearDown() override { PosixFileSystem().Remove(path_).IgnoreError(); }
  void Write(absl::string_view data) {
    ASSERT_TRUE(WriteFileAtomically(PosixFileSystem(), path_, data).ok());
  }
  const std::string path_ =
      testing::TempDir() + "/doppel_mapped_" + testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(MappedFileTest, ShowsTheFile) {
  Write("some content");
  const auto file = MappedFile::Open(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->data(), "some content");
  EXPECT_EQ((*file)->size(), 12U);
  EXPECT_EQ((*file)->path(), path_);
}

TEST_F(MappedFileTest, EmptyFileIsFine) {
  Write("");
  const auto file = MappedFile::Open(path_, MappedFile::Access::kRandom);
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE((*file)->data().empty());
  (*file)->Prefetch(0, 10);
}

TEST_F(MappedFileTest, MissingFileIsNotFound) {
  const absl::Status status = MappedFile::Open(path_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr(path_));
}

TEST_F(MappedFileTest, FolderIsRefused) {
  EXPECT_EQ(MappedFile::Open(testing::TempDir()).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(MappedFileTest, OutlivesTheName) {
  Write("kept");
  const auto file = MappedFile::Open(path_, MappedFile::Access::kSequential);
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE(PosixFileSystem().Remove(path_).ok());
  EXPECT_EQ((*file)->data(), "kept");
}

TEST_F(MappedFileTest, PrefetchTakesAnyRange) {
  Write(std::string(20000, 'x'));
  const auto file = MappedFile::Open(path_);
  ASSERT_TRUE(file.ok());
  (*file)->Prefetch(5000, 100);
  (*file)->Prefetch(19999, ~uint64_t{0});
  (*file)->Prefetch(20000, 1);
  (*file)->Prefetch(0, 0);
  EXPECT_EQ((*file)->data().back(), 'x');
}

}  // namespace
}  // namespace doppel
