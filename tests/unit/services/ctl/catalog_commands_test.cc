#include "services/ctl/catalog_commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/support/catalog_fixture.h"

namespace doppel {
namespace {

using doppel::testing::CatalogFixture;
using doppel::testing::MakeTestImage;
using doppel::testing::ReadTestFile;
using doppel::testing::TempDir;
using doppel::testing::WriteTestFile;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

class CatalogCommandsTest : public ::testing::Test {
 protected:
  CatalogCommandsTest() {
    for (int i = 0; i < 3; ++i) {
      for (int s = 0; s <= i * 2; ++s) {
        WriteTestFile(dir_ / absl::StrCat("data/id", i, "/", s, ".png"), MakeTestImage(i, s, 8));
      }
    }
    import_.path = dir_ / "data";
    import_.catalog = dir_ / "catalog";
  }
  Console Show(OutputFormat format = OutputFormat::kTable) { return Console{out_, err_, format}; }

  TempDir dir_;
  ImportOptions import_;
  std::ostringstream out_, err_;
};

TEST_F(CatalogCommandsTest, ImportPrintsWhatCameIn) {
  ASSERT_TRUE(RunImport(import_, Show()).ok());
  EXPECT_THAT(out_.str(), HasSubstr("identities   3\n"));
  EXPECT_THAT(out_.str(), HasSubstr("samples      9\n"));
  EXPECT_THAT(out_.str(), HasSubstr("Imported imagefolder"));
}

TEST_F(CatalogCommandsTest, ImportNamesTwentySkipsAndCountsAll) {
  for (int i = 0; i < 25; ++i) WriteTestFile(dir_ / absl::StrCat("data/id0/bad", i, ".png"), "x");
  ASSERT_TRUE(RunImport(import_, Show()).ok());
  EXPECT_THAT(out_.str(), HasSubstr("25 corrupt image"));
  EXPECT_THAT(out_.str(), HasSubstr("and 5 more"));
  out_.str("");
  ASSERT_TRUE(RunImport(import_, Show(OutputFormat::kJson)).ok());
  const auto json = nlohmann::json::parse(out_.str());
  EXPECT_EQ(json["samples"], 9);
  EXPECT_EQ(json["skipped"]["count"], 25);
  EXPECT_EQ(json["skipped"]["by_reason"]["corrupt image"], 25);
  EXPECT_EQ(json["skipped"]["first"].size(), 20);
  EXPECT_EQ(json["unchanged"], true);
}

TEST_F(CatalogCommandsTest, DryRunWritesNothing) {
  import_.dry_run = true;
  ASSERT_TRUE(RunImport(import_, Show()).ok());
  EXPECT_THAT(out_.str(), HasSubstr("would write"));
  ASSERT_TRUE(RunImport(import_, Show(OutputFormat::kYaml)).ok());
  EXPECT_FALSE(std::filesystem::exists(dir_ / "catalog"));
  EXPECT_FALSE(std::filesystem::exists(dir_ / "catalog.tmp"));
}

TEST_F(CatalogCommandsTest, StrictImportFails) {
  WriteTestFile(dir_ / "data/id0/bad.png", "x");
  import_.strict = true;
  EXPECT_EQ(ExitCode(RunImport(import_, Show())), 1);
  EXPECT_EQ(out_.str(), "");
}

TEST_F(CatalogCommandsTest, HistogramInPowersOfTwo) {
  ASSERT_TRUE(RunImport(import_, Show()).ok());
  EXPECT_THAT(SamplesHistogram(**Catalog::Open(dir_ / "catalog")),
              ElementsAre(Pair("1", 1), Pair("2", 0), Pair("3-4", 1), Pair("5-8", 1)));
}

TEST_F(CatalogCommandsTest, InspectShowsTheCatalog) {
  ASSERT_TRUE(RunImport(import_, Show()).ok());
  out_.str("");
  InspectOptions inspect;
  inspect.catalog = dir_ / "catalog";
  ASSERT_TRUE(RunInspect(inspect, Show(OutputFormat::kJson)).ok());
  EXPECT_EQ(nlohmann::json::parse(out_.str())["identities"], 3);
  inspect.catalog = dir_ / "none";
  EXPECT_EQ(RunInspect(inspect, Show()).code(), absl::StatusCode::kNotFound);
}

TEST_F(CatalogCommandsTest, InspectShowsAnIdentity) {
  ASSERT_TRUE(RunImport(import_, Show()).ok());
  out_.str("");
  InspectOptions inspect;
  inspect.catalog = dir_ / "catalog";
  inspect.identity = "id1";
  ASSERT_TRUE(RunInspect(inspect, Show(OutputFormat::kWide)).ok());
  EXPECT_THAT(out_.str(), HasSubstr(dir_ / "data/id1/2.png"));
  out_.str("");
  ASSERT_TRUE(RunInspect(inspect, Show(OutputFormat::kJson)).ok());
  EXPECT_EQ(nlohmann::json::parse(out_.str())["identities"][0]["samples"].size(), 3);
  inspect.identity = "nobody";
  EXPECT_EQ(RunInspect(inspect, Show()).code(), absl::StatusCode::kNotFound);
}

TEST_F(CatalogCommandsTest, InspectShowsAnIdentityOfEachSplit) {
  WriteTestFile(dir_ / "two/train/x/1.png", MakeTestImage(0, 0, 8));
  WriteTestFile(dir_ / "two/test/x/1.png", MakeTestImage(0, 1, 8));
  import_.path = dir_ / "two";
  ASSERT_TRUE(RunImport(import_, Show()).ok());
  out_.str("");
  InspectOptions inspect;
  inspect.catalog = dir_ / "catalog";
  inspect.identity = "x";
  ASSERT_TRUE(RunInspect(inspect, Show(OutputFormat::kJson)).ok());
  const auto json = nlohmann::json::parse(out_.str());
  ASSERT_EQ(json["identities"].size(), 2);
  EXPECT_EQ(json["identities"][0]["split"], "train");
  EXPECT_EQ(json["identities"][1]["split"], "test");
}

TEST_F(CatalogCommandsTest, VerifyFindsAChangedImage) {
  const CatalogFixture fixture;
  InspectOptions inspect;
  inspect.catalog = fixture.directory();
  inspect.verify = true;
  ASSERT_TRUE(RunInspect(inspect, Show()).ok());
  const std::string path = fixture.catalog()->SamplePath(3);
  std::string shard = ReadTestFile(path);
  shard[fixture.catalog()->Sample(3).offset + 50] ^= 1;
  WriteTestFile(path, shard);
  const absl::Status status = RunInspect(inspect, Show());
  EXPECT_EQ(ExitCode(status), 1);
  EXPECT_THAT(std::string(status.message()), HasSubstr("1 of 32 samples"));
}

}  // namespace
}  // namespace doppel
