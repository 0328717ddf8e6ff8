#include "common/catalog/catalog_builder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "common/catalog/catalog.h"
#include "tests/support/catalog_fixture.h"

namespace doppel {
namespace {

using doppel::testing::MakeTar;
using doppel::testing::MakeTestImage;
using doppel::testing::ReadTestFile;
using doppel::testing::TempDir;
using doppel::testing::WriteTestFile;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

class CatalogBuilderTest : public ::testing::Test {
 protected:
  absl::StatusOr<CatalogBuildSummary> Import(const std::string& data, const std::string& catalog,
                                             const CatalogBuildOptions& options = {}) {
    auto dataset = OpenDataset("auto", dir_ / data);
    if (!dataset.ok()) return dataset.status();
    return BuildCatalog(**dataset, dir_ / catalog, options);
  }
  std::shared_ptr<const Catalog> Open(const std::string& catalog) {
    auto opened = Catalog::Open(dir_ / catalog);
    EXPECT_TRUE(opened.ok()) << opened.status();
    return *opened;
  }
  std::string Sample(const std::string& key, const std::string& json, int image = 0) {
    return MakeTar({{key + ".png", MakeTestImage(image, 0, 8)}, {key + ".json", json}});
  }
  // The tar without its end, to be put before another one.
  static std::string Open(std::string tar, int) { return tar.substr(0, tar.size() - 1024); }

  void WriteShards(const std::string& folder, int shards) {
    for (int shard = 0; shard < shards; ++shard) {
      std::vector<std::pair<std::string, std::string>> members;
      for (int i = 0; i < 12; ++i) {
        const std::string key = absl::StrCat("k", shard, "-", i);
        members.emplace_back(key + ".png", MakeTestImage(i, shard, 8));
        members.emplace_back(key + ".json",
                             absl::StrCat(R"({"identity":"id)", (i * 7 + shard) % 20, R"(","split":")",
                                          (i * 7 + shard) % 20 < 15 ? "train" : "test", R"("})"));
      }
      WriteTestFile(dir_ / absl::StrCat(folder, "/s", shard, ".tar"), MakeTar(members));
    }
  }
  TempDir dir_;
};

TEST_F(CatalogBuilderTest, SameDataSameTablesWhateverTheThreadsAndThePlace) {
  WriteShards("a", 7);
  WriteShards("elsewhere/b", 7);
  CatalogBuildOptions options;
  options.threads = 1;
  const auto one = Import("a", "c1", options);
  ASSERT_TRUE(one.ok()) << one.status();
  for (const int threads : {2, 5}) {
    options.threads = threads;
    const std::string catalog = absl::StrCat("c", threads);
    const auto other = Import("elsewhere/b", catalog, options);
    ASSERT_TRUE(other.ok()) << other.status();
    EXPECT_EQ(other->manifest.fingerprint(), one->manifest.fingerprint());
    for (const char* table : {"identities.tbl", "samples.tbl", "names.tbl", "keys.tbl"}) {
      EXPECT_EQ(ReadTestFile(dir_ / absl::StrCat("c1/", table)),
                ReadTestFile(dir_ / absl::StrCat(catalog, "/", table)));
    }
  }
}

TEST_F(CatalogBuilderTest, FingerprintDoesNotDependOnHowShardsAreCut) {
  const std::string a = Sample("a", R"({"identity":"x"})", 1), b = Sample("b", R"({"identity":"y"})", 2);
  WriteTestFile(dir_ / "two/0.tar", b);
  WriteTestFile(dir_ / "two/1.tar", a);
  WriteTestFile(dir_ / "one/0.tar", a.substr(0, a.size() - 1024) + b);
  EXPECT_EQ(Import("two", "c2")->manifest.fingerprint(), Import("one", "c1")->manifest.fingerprint());
}

TEST_F(CatalogBuilderTest, FingerprintChangesWithAnyOfItsParts) {
  const std::vector<std::string> variants = {
      Sample("a", R"({"identity":"x"})"), Sample("b", R"({"identity":"x"})"),
      Sample("a", R"({"identity":"y"})"), Sample("a", R"({"identity":"x","split":"train"})"),
      Sample("a", R"({"identity":"x"})", 3)};
  std::set<std::string> fingerprints;
  for (size_t i = 0; i < variants.size(); ++i) {
    const std::string name = absl::StrCat(i);
    WriteTestFile(dir_ / (name + "/s.tar"), variants[i]);
    fingerprints.insert(Import(name, "c" + name)->manifest.fingerprint());
  }
  EXPECT_EQ(fingerprints.size(), variants.size());
}

// Golden: a new program must not disown the catalogs of old ones.
TEST_F(CatalogBuilderTest, FingerprintIsForEver) {
  WriteTestFile(dir_ / "d/s.tar",
                MakeTar({{"k.ppm", doppel::testing::MakePpm(1, 1, "abc")}, {"k.cls", "x"}}));
  EXPECT_EQ(Import("d", "c")->manifest.fingerprint(), "913914726c5bdc7e1fd0c72e2e115d11");
}

TEST_F(CatalogBuilderTest, OrderIsTrainFirstThenSplitIdentityKey) {
  std::string data;
  for (const char* sample :
       {"b|{\"identity\":\"y\",\"split\":\"a\"}", "z|{\"identity\":\"x\",\"split\":\"train\"}",
        "c|{\"identity\":\"x\",\"split\":\"train\"}", "d|{\"identity\":\"w\",\"split\":\"train\"}",
        "e|{\"identity\":\"y\"}"}) {
    const std::string tar = Sample(std::string(1, sample[0]), sample + 2);
    data += tar.substr(0, tar.size() - 1024);
  }
  WriteTestFile(dir_ / "d/s.tar", data + std::string(1024, '\0'));
  ASSERT_TRUE(Import("d", "c").ok());
  const auto catalog = Open("c");
  std::string order;
  for (const CatalogSplitInfo& split : catalog->splits()) {
    absl::StrAppend(&order, split.name, "[");
    for (uint64_t i = split.first_identity; i < split.first_identity + split.identities; ++i) {
      absl::StrAppend(&order, catalog->IdentityName(i), ":");
      const IdentitySamples range = catalog->Samples(i);
      for (uint64_t s = range.first; s < range.first + range.count; ++s)
        absl::StrAppend(&order, catalog->SampleKey(s));
      absl::StrAppend(&order, " ");
    }
    absl::StrAppend(&order, "] ");
  }
  EXPECT_EQ(order, "train[w:d x:cz ] a[y:b ] none[y:e ] ");
  EXPECT_EQ(*catalog->FindIdentity("y"), 2);  // the first of two
}

TEST_F(CatalogBuilderTest, DuplicatesAreNamedAndTheFirstStays) {
  WriteTestFile(dir_ / "d/0.tar", Sample("k", R"({"identity":"x"})", 1));
  WriteTestFile(dir_ / "d/1.tar", Sample("k", R"({"identity":"x"})", 2));
  WriteTestFile(dir_ / "d/2.tar", Sample("k", R"({"identity":"y"})", 3));
  const auto summary = Import("d", "c");
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(summary->manifest.samples(), 2);
  EXPECT_EQ(summary->manifest.skipped(), 1);
  EXPECT_THAT(summary->skipped_by_reason, ElementsAre(Pair("duplicate", 1)));
  EXPECT_EQ(summary->skipped[0].file, dir_ / "d/1.tar");
  EXPECT_EQ(summary->skipped[0].record, "k");
  EXPECT_EQ(Open("c")->ReadChecked(0)->data, MakeTestImage(1, 0, 8));
}

TEST_F(CatalogBuilderTest, OneSampleIdentitiesAndIdentitiesWithoutAny) {
  WriteTestFile(dir_ / "d/one/1.png", MakeTestImage(0, 0, 8));
  WriteTestFile(dir_ / "d/none/1.png", "corrupt");
  std::filesystem::create_directories(dir_ / "d/empty");
  const auto summary = Import("d", "c");
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(Open("c")->num_identities(), 1);
  EXPECT_EQ(Open("c")->Samples(0).count, 1);
  EXPECT_THAT(summary->skipped_by_reason, ElementsAre(Pair("corrupt image", 1), Pair("no image", 1)));
  EXPECT_TRUE(Open("c")->Verify().ok());
}

TEST_F(CatalogBuilderTest, SkippedRecordsAreKeptInTheCatalog) {
  WriteTestFile(dir_ / "d/a/1.png", MakeTestImage(0, 0, 8));
  WriteTestFile(dir_ / "d/a/bad\n\xff.png", "corrupt");
  ASSERT_TRUE(Import("d", "c").ok());
  const std::string lines = ReadTestFile(dir_ / "c/skipped.jsonl");
  EXPECT_THAT(lines, HasSubstr(R"(bad\n)"));
  EXPECT_THAT(lines, HasSubstr(R"("reason":"corrupt image")"));
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 1);
}

TEST_F(CatalogBuilderTest, NothingSkippedNoSkippedFile) {
  WriteShards("d", 1);
  ASSERT_TRUE(Import("d", "c").ok());
  EXPECT_FALSE(std::filesystem::exists(dir_ / "c/skipped.jsonl"));
}

TEST_F(CatalogBuilderTest, StrictFailsAtTheFirstRecordWhateverTheThreads) {
  WriteShards("d", 6);
  WriteTestFile(dir_ / "d/s2.tar", Sample("second", "{"));
  WriteTestFile(dir_ / "d/s4.tar", Sample("fourth", "{"));
  for (const int threads : {1, 4}) {
    CatalogBuildOptions options;
    options.strict = true;
    options.threads = threads;
    const auto summary = Import("d", "c", options);
    EXPECT_EQ(summary.status().code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(summary.status().message()), HasSubstr("s2.tar: second: bad metadata"));
  }
  EXPECT_FALSE(std::filesystem::exists(dir_ / "c"));
  EXPECT_FALSE(std::filesystem::exists(dir_ / "c.tmp"));
}

TEST_F(CatalogBuilderTest, StrictFailsOnDuplicates) {
  WriteTestFile(dir_ / "d/0.tar", Sample("k", R"({"identity":"x"})", 1));
  WriteTestFile(dir_ / "d/1.tar", Sample("k", R"({"identity":"x"})", 2));
  CatalogBuildOptions options;
  options.strict = true;
  EXPECT_EQ(Import("d", "c", options).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(CatalogBuilderTest, DataWithoutASampleIsAnError) {
  WriteTestFile(dir_ / "d/s.tar", Sample("k", "{"));
  const auto summary = Import("d", "c");
  EXPECT_EQ(summary.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(summary.status().message()), HasSubstr("bad metadata"));
  EXPECT_FALSE(std::filesystem::exists(dir_ / "c"));
}

TEST_F(CatalogBuilderTest, SameAgainChangesNothing) {
  WriteShards("d", 2);
  EXPECT_FALSE(Import("d", "c")->unchanged);
  const auto written = std::filesystem::last_write_time(dir_ / "c/manifest.json");
  EXPECT_TRUE(Import("d", "c")->unchanged);
  EXPECT_EQ(std::filesystem::last_write_time(dir_ / "c/manifest.json"), written);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "c.tmp"));
}

TEST_F(CatalogBuilderTest, MovedDataIsImportedWithoutForce) {
  WriteShards("d", 2);
  ASSERT_TRUE(Import("d", "c").ok());
  std::filesystem::rename(dir_ / "d", dir_ / "moved");
  EXPECT_FALSE(Open("c")->Read(0).ok());
  const auto again = Import("moved", "c");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_FALSE(again->unchanged);
  EXPECT_TRUE(Open("c")->ReadChecked(0).ok());
}

TEST_F(CatalogBuilderTest, OtherDataNeedsForce) {
  WriteShards("d", 2);
  WriteShards("e", 3);
  const std::string before = Import("d", "c")->manifest.fingerprint();
  const auto refused = Import("e", "c");
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("--force"));
  EXPECT_EQ(Open("c")->fingerprint(), before);
  const auto reader = Open("c");
  CatalogBuildOptions options;
  options.force = true;
  ASSERT_TRUE(Import("e", "c", options).ok());
  EXPECT_NE(Open("c")->fingerprint(), before);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "c.old"));
  EXPECT_TRUE(reader->ReadChecked(0).ok());  // who holds the old one keeps it
}

TEST_F(CatalogBuilderTest, DamagedCatalogOfTheSameDataIsMended) {
  WriteShards("d", 2);
  ASSERT_TRUE(Import("d", "c").ok());
  std::filesystem::remove(dir_ / "c/keys.tbl");
  ASSERT_TRUE(Import("d", "c").ok());
  EXPECT_TRUE(Open("c")->Verify().ok());
}

TEST_F(CatalogBuilderTest, AnotherDirectoryIsNeverTouched) {
  WriteShards("d", 1);
  WriteTestFile(dir_ / "home/thesis.txt", "precious");
  CatalogBuildOptions options;
  options.force = true;
  EXPECT_EQ(Import("d", "home", options).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReadTestFile(dir_ / "home/thesis.txt"), "precious");
}

TEST_F(CatalogBuilderTest, EmptyDirectoryAndTrailingSlashAreFine) {
  WriteShards("d", 1);
  std::filesystem::create_directories(dir_ / "c");
  ASSERT_TRUE(Import("d", "c/").ok());
  EXPECT_TRUE(Open("c")->Verify().ok());
}

TEST_F(CatalogBuilderTest, PathThatIsNotUtf8IsRefused) {
  WriteTestFile(dir_ / "d\xff/a/1.png", MakeTestImage(0, 0, 8));
  EXPECT_EQ(Import("d\xff", "c").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(CatalogBuilderTest, ThousandsOfSplitsAreAMistake) {
  std::vector<std::pair<std::string, std::string>> members;
  for (int i = 0; i < 1002; ++i) {
    members.emplace_back(absl::StrCat("k", i, ".png"), MakeTestImage(0, 0, 2));
    members.emplace_back(absl::StrCat("k", i, ".json"), absl::StrCat(R"({"identity":1,"split":")", i, "\"}"));
  }
  WriteTestFile(dir_ / "d/s.tar", MakeTar(members));
  EXPECT_EQ(Import("d", "c").status().code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace doppel
