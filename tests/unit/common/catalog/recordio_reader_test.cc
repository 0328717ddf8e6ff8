#include "common/catalog/readers/recordio_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "common/catalog/catalog.h"
#include "common/catalog/catalog_builder.h"
#include "tests/support/catalog_fixture.h"
#include "tests/unit/common/catalog/reading.h"
#include "tests/unit/common/catalog/records.h"

namespace doppel {
namespace {

using doppel::testing::MakeImageRecord;
using doppel::testing::MakeInsightFace;
using doppel::testing::MakePart;
using doppel::testing::MakePpm;
using doppel::testing::MakeRecord;
using doppel::testing::MakeTestImage;
using doppel::testing::ReadAll;
using doppel::testing::RecordFileText;
using doppel::testing::TempDir;
using doppel::testing::Word;
using doppel::testing::WriteTestFile;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class RecordIoTest : public ::testing::Test {
 protected:
  ReadAll Read(const RecordFileText& file, bool index = true) {
    WriteTestFile(dir_ / "d/train.rec", file.rec);
    if (index) WriteTestFile(dir_ / "d/train.idx", file.idx);
    dataset_ = OpenRecordIo(dir_ / "d");
    EXPECT_TRUE(dataset_.ok()) << dataset_.status();
    return ReadAll(**dataset_);
  }
  // Imports what Read has read.
  std::shared_ptr<const Catalog> Import() {
    EXPECT_TRUE(BuildCatalog(**dataset_, dir_ / "c", {}).ok());
    auto catalog = Catalog::Open(dir_ / "c");
    EXPECT_TRUE(catalog.ok()) << catalog.status();
    return *catalog;
  }
  // 4 pixels that are the magic number, at a multiple of 4 of the record: the header has 12 bytes, and 24
  // before.
  static std::string ImageWithMagic(int times) {
    std::string pixels;
    for (int i = 0; i < times; ++i) pixels += Word(kRecordMagic) + Word(7);
    pixels.resize(60, 'x');
    return "P6\n5 4\n255\n " + pixels.substr(0, 60);
  }
  TempDir dir_;
  absl::StatusOr<std::unique_ptr<DatasetReader>> dataset_ = absl::UnknownError("not read");
  const std::string a_ = MakeTestImage(0, 0, 8), b_ = MakeTestImage(1, 0, 8), c_ = MakeTestImage(1, 1, 9);
};

TEST_F(RecordIoTest, InsightFaceLayoutWithAndWithoutIndex) {
  for (const bool index : {true, false}) {
    const ReadAll all = Read(MakeInsightFace({{a_}, {b_, c_}}), index);
    EXPECT_THAT(all.Names(), ElementsAre("1=0", "2=1", "3=1"));
    EXPECT_THAT(all.skips, IsEmpty());
    EXPECT_THAT((*dataset_)->notes(), Contains(HasSubstr("InsightFace")));
    std::filesystem::remove_all(dir_ / "d");
  }
}

TEST_F(RecordIoTest, BytesAreReadInPlace) {
  Read(MakeInsightFace({{a_}, {b_, c_}}));
  const auto catalog = Import();
  EXPECT_EQ(catalog->ReadChecked(0)->data, a_);
  EXPECT_EQ(catalog->ReadChecked(2)->data, c_);
  EXPECT_TRUE(catalog->Contiguous(2));
  EXPECT_EQ(catalog->SamplePath(2), dir_ / "d/train.rec");
  EXPECT_EQ(catalog->num_sources(), 1);
}

TEST_F(RecordIoTest, ShuffledAndIm2RecGroupByLabel) {
  RecordFileText file;
  file.Add(MakeImageRecord({7}, a_));
  file.Add(MakeImageRecord({3}, b_));
  file.Add(MakeImageRecord({7, 0.25f, 0.5f}, c_));  // im2rec with more labels
  const ReadAll all = Read(file);
  EXPECT_THAT(all.Names(), ElementsAre("0=7", "1=3", "2=7"));
  EXPECT_THAT((*dataset_)->notes(), Contains(HasSubstr("own label")));
}

TEST_F(RecordIoTest, RecordsInPartsArePutTogether) {
  RecordFileText file;
  file.Add(MakeImageRecord({0}, a_));
  file.Add(MakeImageRecord({0}, ImageWithMagic(1)));
  file.Add(MakeImageRecord({1}, ImageWithMagic(3)));
  file.Add(MakeImageRecord({1}, b_));
  for (const bool index : {true, false}) {
    const ReadAll all = Read(file, index);
    EXPECT_THAT(all.Names(), ElementsAre("0=0", "1=0", "2=1", "3=1"));
    EXPECT_THAT(all.skips, IsEmpty());
    const auto catalog = Import();
    EXPECT_TRUE(catalog->Contiguous(0));
    EXPECT_FALSE(catalog->Contiguous(1));
    EXPECT_EQ(catalog->ReadChecked(1)->data, ImageWithMagic(1));
    EXPECT_EQ(catalog->ReadChecked(2)->data, ImageWithMagic(3));
    EXPECT_EQ(catalog->ReadChecked(3)->data, b_);
    EXPECT_TRUE(catalog->Verify().ok());
    std::filesystem::remove_all(dir_ / "d");
    std::filesystem::remove_all(dir_ / "c");
  }
}

TEST_F(RecordIoTest, PartsThatDoNotMakeARecordAreNamed) {
  RecordFileText file;
  file.Add(MakeImageRecord({0}, a_));
  file.rec += MakePart(2, "middle") + MakePart(1, "first") + MakePart(0, MakeImageRecord({1}, b_));
  const ReadAll all = Read(file, false);
  EXPECT_THAT(all.Names(), Contains("0=0"));
  EXPECT_THAT(all.Reasons(), Contains("record 1: bad record"));
  EXPECT_EQ(all.entries.back().crc32c, ReadAll(**dataset_).entries.back().crc32c);
}

TEST_F(RecordIoTest, RangesAreHeldAgainstTheLabels) {
  RecordFileText file = MakeInsightFace({{a_}, {b_, c_}});
  file.Add(MakeImageRecord({1, 3}, ""));  // keys 1 and 2 are of two identities
  file.Add(MakeImageRecord({2, 3}, ""));  // leaves key 3 out
  file.Add(MakeImageRecord({90, 95}, ""));
  const ReadAll all = Read(file);
  EXPECT_THAT(all.Names(), ElementsAre("1=0", "2=1", "3=1"));
  EXPECT_THAT(all.Reasons(),
              ElementsAre("record 6: identity range differs", "record 7: identity range differs",
                          "record 8: identity range differs"));
}

TEST_F(RecordIoTest, RangesBeyondFloatsAreCounted) {
  RecordFileText file = MakeInsightFace({{a_}, {b_, c_}});
  file.Add(MakeImageRecord({16777216, 16777220}, ""));
  file.Add(MakeImageRecord({16777220, 16777300}, ""));
  const ReadAll all = Read(file);
  EXPECT_THAT(all.Names(), ElementsAre("1=0", "2=1", "3=1"));
  EXPECT_THAT(all.Reasons(), ElementsAre(": inexact identity ranges"));
  EXPECT_THAT(all.skips[0].detail, HasSubstr("2 ranges"));
}

TEST_F(RecordIoTest, LabelsThatFloatsCannotHoldAreNamed) {
  RecordFileText file;
  for (const float label : {16777215.0f, 16777216.0f, -1.0f, 0.5f, NAN})
    file.Add(MakeImageRecord({label}, a_));
  const ReadAll all = Read(file);
  EXPECT_THAT(all.Names(), ElementsAre("0=16777215"));
  EXPECT_THAT(all.Reasons(), ElementsAre("record 1: inexact label", "record 2: inexact label",
                                         "record 3: inexact label", "record 4: inexact label"));
}

TEST_F(RecordIoTest, DamageIsNamedAndTheRestIsRead) {
  RecordFileText file;
  file.Add(MakeImageRecord({0}, a_));
  const size_t second = file.rec.size();
  file.Add(MakeImageRecord({1}, b_));
  const size_t third = file.rec.size();
  file.Add(MakeImageRecord({2}, c_));
  file.Add(MakeImageRecord({3}, "no image at all"));
  file.rec[second] ^= 1;  // the magic
  file.rec.resize(file.rec.size() - 8);
  for (const bool index : {true, false}) {
    const ReadAll all = Read(file, index);
    EXPECT_THAT(all.Names(), ElementsAre("0=0", "2=2"));
    EXPECT_EQ(all.entries[1].offset, third + 8 + 24);
    EXPECT_THAT(all.Reasons(), ElementsAre("record 1: bad record", "record 3: truncated record"));
    std::filesystem::remove_all(dir_ / "d");
  }
}

TEST_F(RecordIoTest, EveryLengthOfATruncatedFileIsSurvived) {
  RecordFileText file = MakeInsightFace({{a_.substr(0, 40)}, {ImageWithMagic(2)}});
  WriteTestFile(dir_ / "x.idx", file.idx);
  for (size_t size = 1; size < file.rec.size(); size += 3) {
    for (const char* name : {"x.rec", "y.rec"}) {
      WriteTestFile(dir_ / name, file.rec.substr(0, size));
      auto dataset = OpenRecordIo(dir_ / name);
      if (dataset.ok()) {
        EXPECT_TRUE(ReadAll(**dataset).status.ok());
      }
    }
  }
}

TEST_F(RecordIoTest, BrokenHeadersAreNamed) {
  RecordFileText file;
  file.Add("short");
  std::string liar = MakeImageRecord({1}, a_);
  liar.replace(0, 4, Word(0x40000000));  // 2^30 labels
  file.Add(liar);
  file.Add(MakeImageRecord({1}, ""));
  file.Add(MakeImageRecord({1}, a_));
  const ReadAll all = Read(file);
  EXPECT_THAT(all.Names(), ElementsAre("3=1"));
  EXPECT_THAT(all.Reasons(),
              ElementsAre("record 0: bad record", "record 1: bad record", "record 2: no image"));
}

TEST_F(RecordIoTest, BadIndexLinesAreCounted) {
  RecordFileText file;
  file.Add(MakeImageRecord({1}, a_));
  file.idx += "x\ty\n5\t99999999\n7\t4\n";
  const ReadAll all = Read(file);
  EXPECT_THAT(all.Names(), ElementsAre("0=1"));
  EXPECT_THAT(all.Reasons(), ElementsAre(": bad index line", "record 7: bad record"));
  EXPECT_THAT(all.skips[0].detail, HasSubstr("2 lines"));
}

TEST_F(RecordIoTest, WhatIsNoRecordFileIsAnError) {
  WriteTestFile(dir_ / "a.rec", "not a record file");
  WriteTestFile(dir_ / "b.rec", "");
  EXPECT_EQ(OpenRecordIo(dir_ / "a.rec").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(OpenRecordIo(dir_ / "b.rec").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(OpenRecordIo(dir_ / "c.rec").status().code(), absl::StatusCode::kNotFound);
  std::filesystem::create_directories(dir_ / "empty");
  EXPECT_EQ(OpenRecordIo(dir_ / "empty").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(RecordIoTest, ManyRecordsAreManyPartsAndGiveTheSame) {
  RecordFileText file;
  const std::string image = MakePpm(1, 1, "abc");
  for (int i = 0; i < 20000; ++i) file.Add(MakeImageRecord({static_cast<float>(i % 100)}, image));
  const ReadAll with = Read(file);
  EXPECT_EQ((*dataset_)->num_parts(), 3);
  std::filesystem::remove_all(dir_ / "d");
  EXPECT_EQ(Read(file, false).Names(), with.Names());
}

}  // namespace
}  // namespace doppel
