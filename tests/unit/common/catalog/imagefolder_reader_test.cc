#include "common/catalog/readers/imagefolder_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "common/io/crc32c.h"
#include "tests/support/catalog_fixture.h"
#include "tests/unit/common/catalog/reading.h"

namespace doppel {
namespace {

using doppel::testing::MakeTestImage;
using doppel::testing::ReadAll;
using doppel::testing::TempDir;
using doppel::testing::WriteTestFile;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class ImageFolderTest : public ::testing::Test {
 protected:
  void Put(const std::string& name) { WriteTestFile(dir_ / name, image_); }
  ReadAll Read() {
    auto dataset = OpenImageFolder(dir_.path());
    EXPECT_TRUE(dataset.ok()) << dataset.status();
    return ReadAll(**dataset);
  }
  TempDir dir_;
  const std::string image_ = MakeTestImage(1, 1, 8);
};

TEST_F(ImageFolderTest, FolderIsIdentityAndPathIsKey) {
  Put("bob/2.png");
  Put("bob/1.png");
  Put("ann/x.JPG");
  const ReadAll all = Read();
  EXPECT_THAT(all.Names(), ElementsAre("ann/x.JPG=ann", "bob/1.png=bob", "bob/2.png=bob"));
  EXPECT_EQ(all.entries[0].size, image_.size());
  EXPECT_EQ(all.entries[0].crc32c, Crc32c(image_));
  EXPECT_EQ(all.entries[0].split, "");
}

TEST_F(ImageFolderTest, TrainValTestAreSplits) {
  Put("train/bob/1.png");
  Put("test/ann/1.png");
  const ReadAll all = Read();
  EXPECT_THAT(all.Names(), ElementsAre("test/ann/1.png=ann", "train/bob/1.png=bob"));
  EXPECT_EQ(all.entries[0].split, "test");
  EXPECT_EQ(all.entries[1].split, "train");
}

TEST_F(ImageFolderTest, AnotherTopLevelFolderMakesThemIdentities) {
  Put("train/bob/1.png");
  Put("cat/1.png");
  EXPECT_THAT(Read().Names(), ElementsAre("cat/1.png=cat", "train/bob/1.png=train"));
}

TEST_F(ImageFolderTest, IdentitiesCalledTrainAndTestThatHoldImages) {
  Put("train/1.png");
  Put("test/1.png");
  EXPECT_THAT(Read().Names(), ElementsAre("test/1.png=test", "train/1.png=train"));
}

TEST_F(ImageFolderTest, DeeperFoldersBelongToTheIdentity) {
  Put("bob/session2/1.png");
  Put("bob/1.png");
  EXPECT_THAT(Read().Names(), ElementsAre("bob/1.png=bob", "bob/session2/1.png=bob"));
}

TEST_F(ImageFolderTest, UnicodeAndNewlinesInNames) {
  Put("未\n末/画 像\n.png");
  EXPECT_THAT(Read().Names(), ElementsAre("未\n末/画 像\n.png=未\n末"));
}

TEST_F(ImageFolderTest, LinksAreFollowedAndLoopsEnd) {
  Put("real/1.png");
  std::filesystem::create_directory_symlink(dir_ / "real", dir_ / "alias");
  std::filesystem::create_directory_symlink(dir_ / "real", dir_ / "real/loop");
  std::filesystem::create_symlink(dir_ / "real/1.png", dir_ / "real/2.png");
  EXPECT_THAT(Read().Names(),
              ElementsAre("alias/1.png=alias", "alias/2.png=alias", "real/1.png=real", "real/2.png=real"));
}

TEST_F(ImageFolderTest, OtherFilesArePassedOver) {
  Put("bob/1.png");
  WriteTestFile(dir_ / "bob/Thumbs.db", "x");
  WriteTestFile(dir_ / "bob/.hidden.png", "x");
  WriteTestFile(dir_ / "labels.csv", "x");
  WriteTestFile(dir_ / ".cache/x.png", "x");
  const ReadAll all = Read();
  EXPECT_THAT(all.Names(), ElementsAre("bob/1.png=bob"));
  EXPECT_THAT(all.skips, IsEmpty());
}

TEST_F(ImageFolderTest, WhatCannotBeUsedIsNamed) {
  Put("bob/ok.png");
  WriteTestFile(dir_ / "bob/corrupt.png", image_.substr(0, 30));
  WriteTestFile(dir_ / "bob/empty.png", "");
  std::filesystem::create_symlink(dir_ / "nowhere", dir_ / "bob/dangling.png");
  ASSERT_EQ(mkfifo((dir_ / "bob/pipe.png").c_str(), 0600), 0);
  std::filesystem::create_directories(dir_ / "nobody");
  const ReadAll all = Read();
  EXPECT_THAT(all.Names(), ElementsAre("bob/ok.png=bob"));
  ASSERT_EQ(all.skips.size(), 5);
  EXPECT_EQ(all.skips[0].file, dir_ / "bob/corrupt.png");
  EXPECT_THAT(all.Reasons(),
              ElementsAre(": corrupt image", ": unreadable", ": empty image", ": unreadable", ": no image"));
  EXPECT_EQ(all.skips[4].file, dir_ / "nobody");
}

TEST_F(ImageFolderTest, NoFolderIsAnError) {
  EXPECT_EQ(OpenImageFolder(dir_.path()).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(OpenImageFolder(dir_ / "none").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace doppel
