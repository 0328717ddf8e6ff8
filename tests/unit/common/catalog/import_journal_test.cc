#include "common/catalog/import_journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "common/catalog/catalog_builder.h"
#include "common/io/fault_file_system.h"
#include "tests/support/catalog_fixture.h"

namespace doppel {
namespace {

using doppel::testing::MakeTar;
using doppel::testing::MakeTestImage;
using doppel::testing::ReadTestFile;
using doppel::testing::TempDir;
using doppel::testing::WriteTestFile;

class ImportJournalTest : public ::testing::Test {
 protected:
  ImportJournalTest() {
    for (int shard = 0; shard < 5; ++shard) {
      WriteShard(shard, 0);
    }
  }
  void WriteShard(int shard, int image) {
    WriteTestFile(dir_ / absl::StrCat("data/", shard, ".tar"),
                  MakeTar({{absl::StrCat("k", shard, ".png"), MakeTestImage(image, shard, 8)},
                           {absl::StrCat("k", shard, ".cls"), absl::StrCat("id", shard % 2)},
                           {absl::StrCat("bad", shard, ".png"), "x"},
                           {absl::StrCat("bad", shard, ".cls"), "y"}}));
  }
  absl::StatusOr<CatalogBuildSummary> Import(FileSystem& fs = PosixFileSystem(), const std::string& to = "c",
                                             bool resume = true) {
    const auto dataset = OpenDataset("webdataset", dir_ / "data");
    CatalogBuildOptions options;
    options.resume = resume;
    options.threads = 1;
    return BuildCatalog(**dataset, dir_ / to, options, fs);
  }
  // Dies when the third part is to be noted: create, header, part, part, part.
  void DieInTheMiddle() {
    for (uint64_t call = 0; call < 20; ++call) {
      std::filesystem::remove(dir_ / "c.journal");
      FaultInjectingFileSystem faulty(PosixFileSystem());
      faulty.Inject(
          {call, FaultInjectingFileSystem::Error::kIo, FaultInjectingFileSystem::Lasting::kForGood, 0.5});
      ASSERT_FALSE(Import(faulty).ok());
      const auto dataset = OpenDataset("webdataset", dir_ / "data");
      if ((*ImportJournal::Open(PosixFileSystem(), dir_ / "c", **dataset))->resumable() == 2) return;
    }
    FAIL() << "no call leaves two parts";
  }
  TempDir dir_;
};

TEST_F(ImportJournalTest, AnImportThatDiedGoesOnAndGivesTheSame) {
  ASSERT_TRUE(Import(PosixFileSystem(), "whole", false).ok());
  DieInTheMiddle();
  EXPECT_FALSE(std::filesystem::exists(dir_ / "c"));
  const auto summary = Import();
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(summary->resumed_parts, 2);
  EXPECT_EQ(summary->skipped.size(), 5);
  for (const char* name : {"manifest.json", "samples.tbl", "keys.tbl", "skipped.jsonl"}) {
    EXPECT_EQ(ReadTestFile(dir_ / absl::StrCat("c/", name)),
              ReadTestFile(dir_ / absl::StrCat("whole/", name)));
  }
  EXPECT_FALSE(std::filesystem::exists(dir_ / "c.journal"));
}

TEST_F(ImportJournalTest, PartsThatHaveChangedAreReadAgain) {
  DieInTheMiddle();
  WriteShard(0, 3);
  const auto summary = Import();
  ASSERT_TRUE(summary.ok());
  EXPECT_EQ(summary->resumed_parts, 1);
  ASSERT_TRUE(Import(PosixFileSystem(), "whole", false).ok());
  EXPECT_EQ(ReadTestFile(dir_ / "c/samples.tbl"), ReadTestFile(dir_ / "whole/samples.tbl"));
}

TEST_F(ImportJournalTest, OfOtherDataOrDamagedItIsDropped) {
  DieInTheMiddle();
  WriteTestFile(dir_ / "data/9.tar", MakeTar({{"k.png", MakeTestImage(0, 0, 8)}, {"k.cls", "z"}}));
  EXPECT_EQ(Import()->resumed_parts, 0);
  WriteTestFile(dir_ / "c.journal", "no journal");
  std::filesystem::remove_all(dir_ / "c");
  const auto summary = Import();
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(summary->resumed_parts, 0);
}

TEST_F(ImportJournalTest, DryRunsAndImportsWithoutResumeLeaveNone) {
  ASSERT_TRUE(Import(PosixFileSystem(), "c", false).ok());
  EXPECT_FALSE(std::filesystem::exists(dir_ / "c.journal"));
  ASSERT_TRUE(Import(PosixFileSystem(), "d").ok());
  EXPECT_FALSE(std::filesystem::exists(dir_ / "d.journal"));
}

}  // namespace
}  // namespace doppel
