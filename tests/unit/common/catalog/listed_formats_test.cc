#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "common/catalog/readers/csv_reader.h"
#include "common/catalog/readers/csv_rows.h"
#include "common/catalog/readers/lfw_reader.h"
#include "common/catalog/readers/market1501_reader.h"
#include "tests/support/catalog_fixture.h"
#include "tests/unit/common/catalog/reading.h"

namespace doppel {
namespace {

using doppel::testing::MakeTestImage;
using doppel::testing::ReadAll;
using doppel::testing::TempDir;
using doppel::testing::WriteTestFile;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class ListedFormatsTest : public ::testing::Test {
 protected:
  void Put(const std::string& name) { WriteTestFile(dir_ / name, image_); }
  ReadAll Read(absl::StatusOr<std::unique_ptr<DatasetReader>> dataset) {
    EXPECT_TRUE(dataset.ok()) << dataset.status();
    dataset_ = *std::move(dataset);
    return ReadAll(*dataset_);
  }
  // "split/identity:key".
  static std::vector<std::string> Places(const ReadAll& all) {
    std::vector<std::string> places;
    for (const SampleEntry& entry : all.entries)
      places.push_back(absl::StrCat(entry.split, "/", entry.identity, ":", entry.key));
    return places;
  }
  ReadAll ReadCsv(const std::string& text, const std::string& root = "") {
    WriteTestFile(dir_ / "list.csv", text);
    return Read(OpenCsv(dir_ / "list.csv", root));
  }
  TempDir dir_;
  std::unique_ptr<DatasetReader> dataset_;
  const std::string image_ = MakeTestImage(1, 1, 8);
};

std::vector<std::vector<std::string>> AllRows(const std::string& text) {
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> fields;
  size_t skipped = 0;
  for (size_t at = 0; ReadCsvRow(text, &at, &fields);) {
    rows.push_back(fields);
    EXPECT_TRUE(SkipCsvRow(text, &skipped));
    EXPECT_EQ(skipped, at) << text;  // both see the same rows
  }
  return rows;
}

TEST_F(ListedFormatsTest, CsvRowsWithQuotesAndLineEnds) {
  EXPECT_THAT(AllRows("a,b\r\nc,d"), ElementsAre(ElementsAre("a", "b"), ElementsAre("c", "d")));
  EXPECT_THAT(AllRows("\"a,\"\"x\"\"\n1\",b\n,\n"),
              ElementsAre(ElementsAre("a,\"x\"\n1", "b"), ElementsAre("", "")));
  EXPECT_THAT(AllRows("a\"b,\"\"\n\"open,\n"), ElementsAre(ElementsAre("a\"b", ""), ElementsAre("open,\n")));
  EXPECT_THAT(AllRows(""), IsEmpty());
}

TEST_F(ListedFormatsTest, TripletReidCsvHasNoHeader) {
  Put("a/1.png");
  Put("b 2.png");
  const ReadAll all = ReadCsv("0001,a/1.png\n0002,\"b 2.png\"\n0002,./a/../b 2.png\n");
  EXPECT_THAT(all.Names(), ElementsAre("a/1.png=0001", "b 2.png=0002", "b 2.png=0002"));
  EXPECT_THAT(dataset_->notes(), Contains(HasSubstr("pid,path")));
}

TEST_F(ListedFormatsTest, OmlCsvHasSplitsAndNamesWhatItDrops) {
  for (int i = 0; i < 5; ++i) Put(absl::StrCat("i/", i, ".png"));
  const ReadAll all = ReadCsv(
      "\xEF\xBB\xBFlabel,split,is_query,is_gallery,path,category,x_1\r\n"
      "5,train,,,i/0.png,\"coat, red\",1\r\n"
      "6,validation,True,False,i/1.png,hat,\r\n"
      "6,validation,False,True,i/2.png,hat,\r\n"
      "7,validation,1,1,i/3.png,hat,\r\n\r\n",
      dir_.path());
  EXPECT_THAT(Places(all),
              ElementsAre("train/5:i/0.png", "query/6:i/1.png", "gallery/6:i/2.png", "validation/7:i/3.png"));
  EXPECT_THAT(all.skips, IsEmpty());
  EXPECT_THAT(dataset_->notes(), Contains(HasSubstr("category, x_1")));
  EXPECT_THAT(dataset_->notes(), Contains(HasSubstr("bounding boxes")));
}

TEST_F(ListedFormatsTest, CsvNamesRowsThatCannotBeUsed) {
  Put("ok.png");
  WriteTestFile(dir_ / "empty.png", "");
  const ReadAll all =
      ReadCsv("label,path\n1,ok.png\n2,none.png\n3\n,ok.png\n4,empty.png\n5,../x.png\n6,/etc/x.png\n");
  EXPECT_THAT(all.Names(), ElementsAre("ok.png=1"));
  EXPECT_THAT(all.Reasons(),
              ElementsAre("row 3: missing file", "row 4: bad row", "row 5: no identity", "row 6: empty image",
                          "row 7: outside of the root", "row 8: outside of the root"));
  EXPECT_THAT(all.skips[0].detail, HasSubstr(dir_ / "none.png"));
  EXPECT_EQ(all.skips[0].file, dir_ / "list.csv");
}

TEST_F(ListedFormatsTest, CsvTakesAbsolutePathsBelowTheRoot) {
  Put("images/a.png");
  WriteTestFile(dir_ / "lists/x.csv", absl::StrCat("1,", dir_ / "images/a.png", "\n"));
  EXPECT_THAT(Read(OpenCsv(dir_ / "lists/x.csv", dir_ / "images")).Names(), ElementsAre("a.png=1"));
  const ReadAll all = Read(OpenCsv(dir_ / "lists/x.csv", "/"));
  EXPECT_THAT(all.Names(), ElementsAre(absl::StrCat((dir_ / "images/a.png").substr(1), "=1")));
}

TEST_F(ListedFormatsTest, CsvDoesNotFollowFolderLinksOutOfTheRoot) {
  const TempDir outside;
  WriteTestFile(outside / "secret/1.png", image_);
  std::filesystem::create_directory_symlink(outside / "secret", dir_ / "in");
  EXPECT_THAT(ReadCsv("1,in/1.png\n").Reasons(), ElementsAre("row 1: link out of the root"));
  EXPECT_THAT(Read(OpenCsv(dir_ / "list.csv", "", true)).Names(), ElementsAre("in/1.png=1"));
}

TEST_F(ListedFormatsTest, CsvOfManyRowsIsManyParts) {
  Put("a.png");
  std::string text = "label,path\n";
  for (int i = 0; i < 5000; ++i) absl::StrAppend(&text, i, ",\"a.png\"\n");
  const ReadAll all = ReadCsv(text);
  EXPECT_EQ(dataset_->num_parts(), 2);
  ASSERT_EQ(all.entries.size(), 5000);
  EXPECT_EQ(all.entries[4999].identity, "4999");
}

TEST_F(ListedFormatsTest, OtherTablesAreRefused) {
  WriteTestFile(dir_ / "x.csv", "a,b,c\n");
  EXPECT_EQ(OpenCsv(dir_ / "x.csv", "").status().code(), absl::StatusCode::kInvalidArgument);
  WriteTestFile(dir_ / "y.csv", "");
  EXPECT_FALSE(OpenCsv(dir_ / "y.csv", "").ok());
  EXPECT_EQ(OpenCsv(dir_ / "z.csv", "").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(OpenCsv(dir_.path(), "").status().code(), absl::StatusCode::kNotFound);  // two of them
}

TEST_F(ListedFormatsTest, MarketNames) {
  std::string person;
  int camera = 0;
  ASSERT_TRUE(ParseMarketName("0002_c1s1_000451_03.jpg", &person, &camera));
  EXPECT_EQ(person, "0002");
  EXPECT_EQ(camera, 1);
  ASSERT_TRUE(ParseMarketName("-1_c3s2_000101_01.jpg", &person, &camera));
  EXPECT_EQ(person, "-1");
  ASSERT_TRUE(ParseMarketName("0139_c8_f0045186.jpg", &person, &camera));
  EXPECT_EQ(camera, 8);
  for (const char* name : {"x.jpg", "_c1.jpg", "0002_cx.jpg", "0002_c", "0002c1.jpg"})
    EXPECT_FALSE(ParseMarketName(name, &person, &camera)) << name;
  EXPECT_EQ(CameraOfKey("bounding_box_test/0002_c6s1_000451_03.jpg"), 6);
  EXPECT_EQ(CameraOfKey("train/0000/0000_000_14_0303morning_0015_0.jpg"), 14);
  EXPECT_EQ(CameraOfKey("a/b.jpg"), -1);
}

TEST_F(ListedFormatsTest, MarketFoldersAreSplits) {
  for (const char* name :
       {"bounding_box_train/0002_c1s1_000451_03.jpg", "bounding_box_train/0000_c1s1_000001_00.jpg",
        "query/0003_c1s1_000001_00.jpg", "bounding_box_test/0003_c2s1_000001_01.jpg",
        "bounding_box_test/0000_c2s1_000001_01.jpg", "bounding_box_test/-1_c2s1_000001_02.jpg",
        "bounding_box_test/readme_first.jpg", "gt_bbox/0003_c2s1_000001_01.jpg"}) {
    Put(name);
  }
  WriteTestFile(dir_ / "query/Thumbs.db", "x");
  const ReadAll all = Read(OpenMarket1501(dir_.path()));
  EXPECT_THAT(Places(all), UnorderedElementsAre("train/0002:bounding_box_train/0002_c1s1_000451_03.jpg",
                                                "query/0003:query/0003_c1s1_000001_00.jpg",
                                                "gallery/0003:bounding_box_test/0003_c2s1_000001_01.jpg",
                                                "gallery/0000:bounding_box_test/0000_c2s1_000001_01.jpg"));
  EXPECT_THAT(all.Reasons(),
              UnorderedElementsAre(": background (person 0)", ": junk (person -1)", ": unknown name"));
}

TEST_F(ListedFormatsTest, MsmtLists) {
  Put("mask_train_v2/0000/0000_000_01_0303morning_0015_0.jpg");
  Put("mask_train_v2/0001/0001_000_02_0303morning_0015_0.jpg");
  Put("mask_test_v2/0000/0000_000_05_0303noon_0015_0.jpg");
  WriteTestFile(dir_ / "list_train.txt", "0000/0000_000_01_0303morning_0015_0.jpg 0\n");
  WriteTestFile(dir_ / "list_val.txt", "0001/0001_000_02_0303morning_0015_0.jpg 1\n");
  WriteTestFile(dir_ / "list_query.txt", "0000/0000_000_05_0303noon_0015_0.jpg 0\r\n\n");
  WriteTestFile(dir_ / "list_gallery.txt", "0000/none.jpg 0\nnoperson.jpg\n../../x.jpg 3\n");
  const ReadAll all = Read(OpenMarket1501(dir_.path()));
  EXPECT_THAT(Places(all), ElementsAre("train/0:mask_train_v2/0000/0000_000_01_0303morning_0015_0.jpg",
                                       "val/1:mask_train_v2/0001/0001_000_02_0303morning_0015_0.jpg",
                                       "query/0:mask_test_v2/0000/0000_000_05_0303noon_0015_0.jpg"));
  EXPECT_THAT(all.Reasons(), ElementsAre(": missing file", ": unknown name", ": outside of the root"));
}

TEST_F(ListedFormatsTest, NoMarketFoldersIsAnError) {
  EXPECT_EQ(OpenMarket1501(dir_.path()).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(OpenMarket1501(dir_ / "none").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ListedFormatsTest, LfwWithPairs) {
  Put("lfw/Ann_A/Ann_A_0001.jpg");
  Put("lfw/Ann_A/Ann_A_0002.jpg");
  Put("lfw/Bob/Bob_0001.jpg");
  WriteTestFile(dir_ / "pairs.txt", "1\t2\nAnn_A\t1\t2\nAnn_A\t1\tBob\t1\nBob\t1\t7\nwhat is this\n");
  const ReadAll all = Read(OpenLfw(dir_.path()));
  EXPECT_THAT(all.Names(), ElementsAre("Ann_A/Ann_A_0001.jpg=Ann_A", "Ann_A/Ann_A_0002.jpg=Ann_A",
                                       "Bob/Bob_0001.jpg=Bob"));
  EXPECT_THAT(all.Reasons(), ElementsAre("line 4: missing pair image"));
  EXPECT_THAT(all.skips[0].detail, HasSubstr("Bob_0007"));
  EXPECT_THAT(dataset_->notes(), Contains(HasSubstr("3 pairs")));
}

TEST_F(ListedFormatsTest, LfwWithoutPairs) {
  Put("Ann/Ann_0001.jpg");
  EXPECT_THAT(Read(OpenLfw(dir_.path())).Names(), ElementsAre("Ann/Ann_0001.jpg=Ann"));
  EXPECT_EQ(OpenLfw(dir_ / "Ann").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ListedFormatsTest, AutoGuessesAndSaysWhy) {
  const auto guess = [&](const std::string& name) { return GuessFormat(dir_ / name)->format; };
  WriteTestFile(dir_ / "w/a.tar", "x");
  WriteTestFile(dir_ / "r/train.rec", "x");
  WriteTestFile(dir_ / "r/train.idx", "x");
  WriteTestFile(dir_ / "magic", "\x0a\x23\xd7\xce....");
  WriteTestFile(dir_ / "l.csv", "1,x.png");
  Put("m/bounding_box_train/0002_c1s1_000451_03.jpg");
  WriteTestFile(dir_ / "s/list_train.txt", "");
  Put("lfw/Ann/Ann_0001.jpg");
  WriteTestFile(dir_ / "p/pairs.txt", "");
  Put("f/identity/1.png");
  EXPECT_EQ(guess("w"), "webdataset");
  EXPECT_EQ(guess("w/a.tar"), "webdataset");
  EXPECT_EQ(guess("r"), "recordio");
  EXPECT_EQ(guess("r/train.rec"), "recordio");
  EXPECT_EQ(guess("magic"), "recordio");
  EXPECT_EQ(guess("l.csv"), "csv");
  EXPECT_EQ(guess("m"), "market1501");
  EXPECT_EQ(guess("s"), "market1501");
  EXPECT_EQ(guess("lfw"), "lfw");
  EXPECT_EQ(guess("p"), "lfw");
  EXPECT_EQ(guess("f"), "imagefolder");
  EXPECT_EQ(guess("x-{0..3}.tar"), "webdataset");
  EXPECT_THAT(GuessFormat(dir_ / "m")->reason, HasSubstr("bounding_box_train"));
  EXPECT_EQ(GuessFormat(dir_ / "none").status().code(), absl::StatusCode::kNotFound);
  const auto unknown = OpenDataset("parquet", dir_ / "f");
  EXPECT_THAT(std::string(unknown.status().message()), HasSubstr("recordio"));
}

TEST_F(ListedFormatsTest, LinksOutOfAnImageFolderAreNamed) {
  const TempDir outside;
  WriteTestFile(outside / "x/1.png", image_);
  Put("a/1.png");
  std::filesystem::create_symlink(outside / "x/1.png", dir_ / "a/2.png");
  std::filesystem::create_directory_symlink(outside / "x", dir_ / "b");
  const ReadAll all = Read(OpenDataset("imagefolder", dir_.path()));
  EXPECT_THAT(all.Names(), ElementsAre("a/1.png=a"));
  EXPECT_THAT(all.Reasons(), ElementsAre(": link out of the root", ": link out of the root"));
  EXPECT_EQ(Read(OpenDataset("imagefolder", dir_.path(), {"", true})).entries.size(), 3);
}

}  // namespace
}  // namespace doppel
