#include "common/catalog/readers/webdataset_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "common/io/crc32c.h"
#include "tests/support/catalog_fixture.h"
#include "tests/unit/common/catalog/reading.h"

namespace doppel {
namespace {

using doppel::testing::MakeTar;
using doppel::testing::MakeTestImage;
using doppel::testing::ReadAll;
using doppel::testing::TempDir;
using doppel::testing::WriteTestFile;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using Members = std::vector<std::pair<std::string, std::string>>;

class WebDatasetTest : public ::testing::Test {
 protected:
  ReadAll Read(const Members& members) { return ReadBytes(MakeTar(members)); }
  ReadAll ReadBytes(const std::string& archive) {
    WriteTestFile(dir_ / "shard.tar", archive);
    auto dataset = OpenWebDataset(dir_ / "shard.tar");
    EXPECT_TRUE(dataset.ok()) << dataset.status();
    return ReadAll(**dataset);
  }
  TempDir dir_;
  const std::string image_ = MakeTestImage(1, 1, 8);
};

TEST_F(WebDatasetTest, MembersWithOneBasenameAreOneSample) {
  const ReadAll all =
      Read({{"k1.png", image_}, {"k1.cls", "7\n"}, {"k2.json", R"({"identity":"x"})"}, {"k2.png", image_}});
  EXPECT_THAT(all.Names(), ElementsAre("k1=7", "k2=x"));
  EXPECT_THAT(all.skips, IsEmpty());
}

TEST_F(WebDatasetTest, PlaceAndChecksumAreThoseOfTheImage) {
  const ReadAll all = Read({{"k.cls", "7"}, {"k.png", image_}});
  ASSERT_EQ(all.entries.size(), 1);
  EXPECT_EQ(all.entries[0].offset, 1536);
  EXPECT_EQ(all.entries[0].size, image_.size());
  EXPECT_EQ(all.entries[0].crc32c, Crc32c(image_));
}

TEST_F(WebDatasetTest, MembersOfASampleNeedNotFollowOneAnother) {
  EXPECT_THAT(Read({{"a.png", image_}, {"b.png", image_}, {"a.cls", "1"}, {"b.cls", "2"}}).Names(),
              ElementsAre("a=1", "b=2"));
}

TEST_F(WebDatasetTest, KeyIsThePathUpToTheFirstDotOfTheLastComponent) {
  EXPECT_THAT(Read({{"v1.0/k.left.png", image_}, {"v1.0/k.cls", "1"}}).Names(), ElementsAre("v1.0/k=1"));
}

TEST_F(WebDatasetTest, PlainImageExtensionGoesBeforeALongerOne) {
  const ReadAll all = Read({{"k.mask.png", "junk"}, {"k.png", image_}, {"k.cls", "1"}});
  ASSERT_EQ(all.entries.size(), 1);
  EXPECT_EQ(all.entries[0].size, image_.size());
}

TEST_F(WebDatasetTest, ExtensionsAreCaseInsensitive) {
  EXPECT_THAT(Read({{"k.PNG", image_}, {"k.CLS", "1"}}).Names(), ElementsAre("k=1"));
}

TEST_F(WebDatasetTest, IdentityFields) {
  EXPECT_THAT(Read({{"a.png", image_},
                    {"a.json", R"({"label":12})"},
                    {"b.png", image_},
                    {"b.json", R"({"class":"dog"})"},
                    {"c.png", image_},
                    {"c.json", R"({"class":"no","identity":"yes"})"},
                    {"d.png", image_},
                    {"d.json", R"({"identity":"no"})"},
                    {"d.cls", "yes"}})
                  .Names(),
              ElementsAre("a=12", "b=dog", "c=yes", "d=yes"));
}

TEST_F(WebDatasetTest, SplitComesFromJson) {
  const ReadAll all = Read({{"a.png", image_},
                            {"a.json", R"({"identity":"x","split":"test"})"},
                            {"b.png", image_},
                            {"b.json", R"({"identity":"x","split":null})"}});
  ASSERT_EQ(all.entries.size(), 2);
  EXPECT_EQ(all.entries[0].split, "test");
  EXPECT_EQ(all.entries[1].split, "");
}

TEST_F(WebDatasetTest, WhatIsMissingOrBrokenIsNamed) {
  std::string cut = image_;
  cut.resize(cut.size() - 5);
  const ReadAll all = Read({{"ok.png", image_},
                            {"ok.cls", "1"},
                            {"noimage.cls", "1"},
                            {"noidentity.png", image_},
                            {"blank.png", image_},
                            {"blank.cls", " \n"},
                            {"empty.png", ""},
                            {"empty.cls", "1"},
                            {"cut.png", cut},
                            {"cut.cls", "1"},
                            {"text.jpg", "hello"},
                            {"text.cls", "1"},
                            {"json.png", image_},
                            {"json.json", "{"},
                            {"float.png", image_},
                            {"float.json", R"({"identity":1.5})"},
                            {"split.png", image_},
                            {"split.json", R"({"identity":"x","split":3})"}});
  EXPECT_THAT(all.Names(), ElementsAre("ok=1"));
  EXPECT_THAT(all.Reasons(), ElementsAre("noimage: no image", "noidentity: no identity", "blank: no identity",
                                         "empty: empty image", "cut: corrupt image", "text: corrupt image",
                                         "json: bad metadata", "float: no identity", "split: bad metadata"));
}

TEST_F(WebDatasetTest, MemberTwiceIsNamedAndTheFirstTaken) {
  const ReadAll all = Read({{"a.png", image_}, {"a.cls", "1"}, {"a.png", "x"}});
  EXPECT_THAT(all.Names(), ElementsAre("a=1"));
  EXPECT_THAT(all.Reasons(), ElementsAre("a.png: duplicate"));
}

TEST_F(WebDatasetTest, HiddenAndMetaAndDotlessMembersArePassedOver) {
  const ReadAll all = Read({{"README", "x"},
                            {".DS_Store", "x"},
                            {"d/._k.png", "x"},
                            {"__meta__/a.json", "{}"},
                            {"k.png", image_},
                            {"k.cls", "1"}});
  EXPECT_THAT(all.Names(), ElementsAre("k=1"));
  EXPECT_THAT(all.skips, IsEmpty());
}

TEST_F(WebDatasetTest, DamagedHeaderCostsItsSampleOnly) {
  std::string archive = MakeTar({{"a.png", image_}, {"a.cls", "1"}, {"b.png", image_}, {"b.cls", "2"}});
  archive[2] ^= 1;
  const ReadAll all = ReadBytes(archive);
  EXPECT_THAT(all.Names(), ElementsAre("b=2"));
  EXPECT_THAT(all.Reasons(), ElementsAre("byte 0: bad header", "a: no image"));
}

TEST_F(WebDatasetTest, ShardCutAtAnyLengthGivesItsCompleteSamples) {
  const std::string archive = MakeTar({{"a.png", image_}, {"a.cls", "1"}, {"b.png", image_}, {"b.cls", "2"}});
  const size_t sample = 512 + (image_.size() + 511) / 512 * 512 + 1024;
  for (size_t size = 0; size < archive.size() - 512; size += 37) {
    const ReadAll all = ReadBytes(archive.substr(0, size));
    ASSERT_TRUE(all.status.ok()) << all.status;
    // The padding of the last member may be missing.
    const size_t complete = (size + 511) / sample;
    EXPECT_GE(all.entries.size(), std::min<size_t>(size / sample, 2)) << size;
    EXPECT_LE(all.entries.size(), complete) << size;
    ASSERT_FALSE(all.skips.empty()) << size;
    EXPECT_EQ(all.skips[0].reason, "truncated archive") << size;
  }
}

TEST_F(WebDatasetTest, TruncatedMemberIsNamedOnce) {
  const std::string archive = MakeTar({{"a.cls", "1"}, {"a.png", image_}});
  const ReadAll all = ReadBytes(archive.substr(0, 1024 + 512 + 20));
  EXPECT_THAT(all.entries, IsEmpty());
  EXPECT_THAT(all.Reasons(), ElementsAre("a.png: truncated archive"));
}

TEST_F(WebDatasetTest, FolderOfShardsInOrderOfName) {
  WriteTestFile(dir_ / "d/s-1.tar", MakeTar({{"b.png", image_}, {"b.cls", "2"}}));
  WriteTestFile(dir_ / "d/s-0.tar", MakeTar({{"a.png", image_}, {"a.cls", "1"}}));
  WriteTestFile(dir_ / "d/notes.txt", "x");
  for (const char* path : {"d", "d/s-{0..1}.tar"}) {
    const auto dataset = OpenWebDataset(dir_ / path);
    ASSERT_TRUE(dataset.ok()) << dataset.status();
    EXPECT_EQ((*dataset)->sources()[0].path(), dir_ / "d/s-0.tar");
    const ReadAll all(**dataset);
    EXPECT_THAT(all.Names(), ElementsAre("a=1", "b=2"));
    EXPECT_EQ(all.entries[1].source, 1);
  }
}

TEST_F(WebDatasetTest, PathsThatLeadNowhereAreErrors) {
  EXPECT_EQ(OpenWebDataset(dir_ / "none.tar").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(OpenWebDataset(dir_.path()).status().code(), absl::StatusCode::kNotFound);
  WriteTestFile(dir_ / "s-0.tar", MakeTar({}));
  const auto missing = OpenWebDataset(dir_ / "s-{0..1}.tar");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("s-1.tar"));
}

TEST_F(WebDatasetTest, CompressedShardSaysWhatToDo) {
  WriteTestFile(dir_ / "s.tar", "\x1f\x8b\x08 and so on");
  const auto dataset = OpenWebDataset(dir_ / "s.tar");
  EXPECT_EQ(dataset.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(dataset.status().message()), HasSubstr("unpack"));
}

TEST_F(WebDatasetTest, EmptyShardIsNamed) {
  WriteTestFile(dir_ / "s.tar", "");
  const auto dataset = OpenWebDataset(dir_ / "s.tar");
  ASSERT_TRUE(dataset.ok());
  EXPECT_THAT(ReadAll(**dataset).Reasons(), ElementsAre(": truncated archive"));
}

TEST_F(WebDatasetTest, AutoTellsShardsFromFolders) {
  WriteTestFile(dir_ / "w/s.tar", MakeTar({{"k.png", image_}, {"k.cls", "1"}}));
  WriteTestFile(dir_ / "f/identity/a.png", image_);
  EXPECT_EQ((*OpenDataset("auto", dir_ / "w"))->format(), "webdataset");
  EXPECT_EQ((*OpenDataset("auto", dir_ / "w/s.tar"))->format(), "webdataset");
  EXPECT_EQ((*OpenDataset("auto", dir_ / "f"))->format(), "imagefolder");
  EXPECT_EQ(OpenDataset("parquet", dir_ / "f").status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace doppel
