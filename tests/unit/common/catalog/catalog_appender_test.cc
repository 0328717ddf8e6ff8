#include "common/catalog/catalog_appender.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "common/catalog/catalog.h"
#include "common/catalog/catalog_packer.h"
#include "common/catalog/catalog_version.h"
#include "common/io/fault_file_system.h"
#include "tests/support/catalog_fixture.h"
#include "tests/unit/common/catalog/appending.h"

namespace doppel {
namespace {

using doppel::testing::MakeTestImage;
using doppel::testing::ReadTestFile;
using doppel::testing::WriteTestFile;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

using CatalogAppenderTest = doppel::testing::AppendFixture;

TEST_F(CatalogAppenderTest, NewIdentitiesFollowAndNumbersStay) {
  Images("old", {"b/1", "b/2", "d/1"});
  Images("new", {"a/1", "c/1", "c/2", "e/1"});
  ASSERT_TRUE(Import("old").ok());
  const auto before = Open();
  const auto summary = Append("new");
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(summary->new_identities, 3);
  EXPECT_EQ(summary->extended_identities, 0);
  EXPECT_EQ(summary->new_samples, 4);
  EXPECT_EQ(summary->known_samples, 0);
  const auto after = Open();
  EXPECT_THAT(Names(*after), ElementsAre("b", "d", "a", "c", "e"));
  EXPECT_THAT(SamplesOf(*after, 0), ElementsAre(0, 1));
  EXPECT_THAT(SamplesOf(*after, 2), ElementsAre(3));
  EXPECT_THAT(SamplesOf(*after, 3), ElementsAre(4, 5));
  EXPECT_NE(after->fingerprint(), before->fingerprint());
  EXPECT_EQ(after->Split("")->identities, 5);
  EXPECT_EQ(after->Split("")->samples, 7);
  ExpectWhole(*after);
}

TEST_F(CatalogAppenderTest, SamplesOfAKnownIdentityJoinIt) {
  Images("old", {"a/1", "a/2", "b/1"});
  Images("new", {"a/0", "a/3", "b/2", "c/1"});
  ASSERT_TRUE(Import("old").ok());
  const auto summary = Append("new");
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(summary->extended_identities, 2);
  EXPECT_EQ(summary->new_identities, 1);
  const auto catalog = Open();
  EXPECT_THAT(SamplesOf(*catalog, 0), ElementsAre(0, 1, 3, 4));
  EXPECT_NE(catalog->Samples(0).numbers, nullptr);
  EXPECT_THAT(SamplesOf(*catalog, 1), ElementsAre(2, 5));
  EXPECT_THAT(SamplesOf(*catalog, 2), ElementsAre(6));
  EXPECT_EQ(catalog->SampleKey(3), "a/0.png");
  EXPECT_EQ(catalog->Samples(0).end(), 5);
  ExpectWhole(*catalog);
}

TEST_F(CatalogAppenderTest, LastIdentityExtendedIsConsecutive) {
  Images("old", {"a/1", "b/1"});
  Images("new", {"b/2", "b/3"});
  ASSERT_TRUE(Import("old").ok());
  ASSERT_TRUE(Append("new").ok());
  const auto catalog = Open();
  EXPECT_THAT(SamplesOf(*catalog, 1), ElementsAre(1, 2, 3));
  EXPECT_EQ(catalog->Samples(1).numbers, nullptr);
}

TEST_F(CatalogAppenderTest, SameDataTwiceChangesNothing) {
  Images("old", {"a/1", "b/1"});
  Images("new", {"a/2", "c/1"});
  ASSERT_TRUE(Import("old").ok());
  ASSERT_TRUE(Append("new").ok());
  const std::string manifest = ReadTestFile(dir_ / "c/manifest.json");
  const std::vector<std::string> files = Files();
  for (const char* data : {"new", "old"}) {
    const auto again = Append(data);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_TRUE(again->unchanged);
    EXPECT_EQ(again->known_samples, 2);
    EXPECT_THAT(again->skipped, IsEmpty());
    EXPECT_EQ(again->new_samples, 0);
  }
  EXPECT_EQ(ReadTestFile(dir_ / "c/manifest.json"), manifest);
  EXPECT_EQ(Files(), files);
}

TEST_F(CatalogAppenderTest, KnownImagesAmongNewOnesAreLeftOut) {
  Images("data", {"a/1", "b/1"});
  ASSERT_TRUE(Import("data").ok());
  Images("data", {"a/2", "c/1"});
  const auto summary = Append("data");
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(summary->known_samples, 2);
  EXPECT_EQ(summary->new_samples, 2);
  // The same folder: one source.
  EXPECT_EQ(summary->manifest.sources_size(), 1);
  ExpectWhole(*Open());
}

TEST_F(CatalogAppenderTest, AnotherImageUnderAKnownKeyIsNamed) {
  Images("old", {"a/1"});
  Images("new", {"a/1", "a/2"}, 5);
  ASSERT_TRUE(Import("old").ok());
  const auto summary = Append("new");
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_THAT(summary->skipped_by_reason, ElementsAre(Pair("changed", 1)));
  EXPECT_EQ(summary->skipped[0].record, "a/1.png");
  EXPECT_EQ(Open()->ReadChecked(0)->data, MakeTestImage('a', '1', 8));
  EXPECT_THAT(ReadTestFile(dir_ / "c/skipped-2.jsonl"), HasSubstr("changed"));
}

TEST_F(CatalogAppenderTest, ThreeInARow) {
  Images("0", {"m/1", "n/1"});
  ASSERT_TRUE(Import("0").ok());
  std::vector<std::string> fingerprints = {Open()->fingerprint()};
  std::vector<std::vector<std::string>> contents = {Content(*Open())};
  Images("1", {"a/1", "m/2"});
  Images("2", {"m/3", "a/2", "z/1"});
  Images("3", {"b/1", "z/2", "n/2"});
  for (const char* data : {"1", "2", "3"}) {
    const auto summary = Append(data);
    ASSERT_TRUE(summary.ok()) << summary.status();
    fingerprints.push_back(summary->manifest.fingerprint());
    contents.push_back(Content(*Open()));
    ExpectWhole(*Open());
  }
  EXPECT_EQ(std::set<std::string>(fingerprints.begin(), fingerprints.end()).size(), 4);
  const auto newest = Open();
  EXPECT_THAT(Names(*newest), ElementsAre("m", "n", "a", "z", "b"));
  EXPECT_THAT(SamplesOf(*newest, 0), ElementsAre(0, 2, 4));
  ASSERT_EQ(newest->earlier_versions().size(), 3);
  // Each version is what it was, seen from the newest.
  for (size_t v = 0; v < fingerprints.size(); ++v) {
    const auto version = CatalogAtVersion(newest, fingerprints[v]);
    ASSERT_TRUE(version.ok()) << version.status();
    EXPECT_EQ((*version)->fingerprint(), fingerprints[v]);
    EXPECT_EQ(Content(**version), contents[v]) << v;
    EXPECT_EQ((*version)->earlier_versions().size(), v);
    EXPECT_EQ((*version)->Split("")->identities, (*version)->num_identities());
    EXPECT_EQ((*version)->Split("")->samples, (*version)->num_samples());
    EXPECT_TRUE(HasVersion(*newest, fingerprints[v]));
  }
  // Only the newest version's tables are there.
  EXPECT_THAT(Files(), ElementsAre("identities-4.tbl", "keys-4.tbl", "manifest.json", "names-4.tbl",
                                   "order-4.tbl", "samples-4.tbl"));
}

TEST_F(CatalogAppenderTest, EarlierVersionsDoNotKnowLaterNames) {
  Images("old", {"b/1"});
  Images("new", {"a/1"});
  ASSERT_TRUE(Import("old").ok());
  const std::string first = Open()->fingerprint();
  ASSERT_TRUE(Append("new").ok());
  const auto version = CatalogAtVersion(Open(), first);
  EXPECT_EQ(*(*version)->FindIdentity("b"), 0);
  EXPECT_TRUE(absl::IsNotFound((*version)->FindIdentity("a").status()));
  EXPECT_EQ(*Open()->FindIdentity("a"), 1);
  const auto unknown = CatalogAtVersion(Open(), "0123");
  EXPECT_TRUE(absl::IsFailedPrecondition(unknown.status())) << unknown.status();
}

TEST_F(CatalogAppenderTest, TheVersionThatIsOpenReadsOn) {
  Images("old", {"a/1", "b/1"});
  Images("new", {"a/2"});
  ASSERT_TRUE(Import("old").ok());
  const auto before = Open();
  const std::vector<std::string> content = Content(*before);
  ASSERT_TRUE(Append("new").ok());
  EXPECT_EQ(Content(*before), content);
  EXPECT_TRUE(before->ReadChecked(1).ok());
}

TEST_F(CatalogAppenderTest, OrderOfVersionsMattersToTheFingerprint) {
  Images("old", {"m/1"});
  Images("x", {"a/1"});
  Images("y", {"b/1"});
  ASSERT_TRUE(Import("old").ok());
  ASSERT_TRUE(Append("x").ok());
  ASSERT_TRUE(Append("y").ok());
  const std::string one = Open()->fingerprint();
  std::filesystem::remove_all(dir_ / "c");
  ASSERT_TRUE(Import("old").ok());
  ASSERT_TRUE(Append("y").ok());
  ASSERT_TRUE(Append("x").ok());
  EXPECT_NE(Open()->fingerprint(), one);
}

TEST_F(CatalogAppenderTest, SameAppendSameBytes) {
  Images("old", {"a/1", "b/1"});
  Images("new", {"a/2", "c/1", "c/2"});
  std::map<std::string, std::string> bytes;
  for (const int threads : {1, 4}) {
    std::filesystem::remove_all(dir_ / "c");
    ASSERT_TRUE(Import("old").ok());
    CatalogAppendOptions options;
    options.build.threads = threads;
    ASSERT_TRUE(Append("new", options).ok());
    for (const std::string& file : Files()) {
      const std::string content = ReadTestFile(dir_ / ("c/" + file));
      EXPECT_EQ(bytes.try_emplace(file, content).first->second, content) << file;
    }
  }
}

TEST_F(CatalogAppenderTest, DamagedRecordsAreNamedAndTheRestIsTaken) {
  Images("old", {"a/1"});
  Images("new", {"b/1"});
  WriteTestFile(dir_ / "new/b/2.png", "no image");
  WriteTestFile(dir_ / "new/c/1.png", "");
  ASSERT_TRUE(Import("old").ok());
  const auto summary = Append("new");
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_THAT(summary->skipped_by_reason, ElementsAre(Pair("corrupt image", 1), Pair("empty image", 1)));
  EXPECT_EQ(Open()->num_samples(), 2);
  EXPECT_EQ(summary->manifest.skipped(), 2);
  ExpectWhole(*Open());
}

TEST_F(CatalogAppenderTest, StrictTakesNothingOfDamagedData) {
  Images("old", {"a/1"});
  Images("new", {"b/1"});
  WriteTestFile(dir_ / "new/b/2.png", "no image");
  ASSERT_TRUE(Import("old").ok());
  const std::string manifest = ReadTestFile(dir_ / "c/manifest.json");
  CatalogAppendOptions options;
  options.build.strict = true;
  EXPECT_TRUE(absl::IsDataLoss(Append("new", options).status()));
  EXPECT_EQ(ReadTestFile(dir_ / "c/manifest.json"), manifest);
}

TEST_F(CatalogAppenderTest, NothingUsableIsAnError) {
  Images("old", {"a/1"});
  WriteTestFile(dir_ / "new/b/2.png", "no image");
  ASSERT_TRUE(Import("old").ok());
  EXPECT_TRUE(absl::IsInvalidArgument(Append("new").status()));
}

TEST_F(CatalogAppenderTest, WithoutACatalogItSaysSo) {
  Images("new", {"b/1"});
  const auto missing = Append("new");
  EXPECT_TRUE(absl::IsNotFound(missing.status())) << missing.status();
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("doppel import"));
  EXPECT_FALSE(std::filesystem::exists(dir_ / "c"));
}

TEST_F(CatalogAppenderTest, DryRunWritesNothing) {
  Images("old", {"a/1"});
  Images("new", {"b/1"});
  ASSERT_TRUE(Import("old").ok());
  const std::vector<std::string> files = Files();
  CatalogAppendOptions options;
  options.build.dry_run = true;
  const auto summary = Append("new", options);
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(summary->new_identities, 1);
  EXPECT_EQ(summary->manifest.identities(), 2);
  EXPECT_EQ(Files(), files);
  EXPECT_EQ(Open()->num_identities(), 1);
}

TEST_F(CatalogAppenderTest, DamagedTablesAreNotCarriedOn) {
  Images("old", {"a/1", "b/1"});
  Images("new", {"c/1"});
  ASSERT_TRUE(Import("old").ok());
  std::string names = ReadTestFile(dir_ / "c/names.tbl");
  names.back() ^= 1;
  WriteTestFile(dir_ / "c/names.tbl", names);
  EXPECT_TRUE(absl::IsDataLoss(Append("new").status()));
}

TEST_F(CatalogAppenderTest, VerifyFindsADamagedOrder) {
  Images("old", {"a/1", "b/1"});
  Images("new", {"a/2"});
  ASSERT_TRUE(Import("old").ok());
  ASSERT_TRUE(Append("new").ok());
  std::string order = ReadTestFile(dir_ / "c/order-2.tbl");
  order[order.size() - 8] = 77;  // far behind the last sample
  WriteTestFile(dir_ / "c/order-2.tbl", order);
  const auto catalog = Open();
  EXPECT_TRUE(absl::IsDataLoss(catalog->Verify()));
  EXPECT_EQ(catalog->SampleKey(catalog->Samples(1)[0]), "");
  order.resize(order.size() - 8);
  WriteTestFile(dir_ / "c/order-2.tbl", order);
  EXPECT_TRUE(absl::IsDataLoss(Catalog::Open(dir_ / "c").status()));
}

TEST_F(CatalogAppenderTest, AppendsToAPackedCatalogBesideItsImages) {
  Images("old", {"a/1", "b/1"});
  Images("new", {"a/2", "c/1"});
  ASSERT_TRUE(Import("old").ok());
  ASSERT_TRUE(PackCatalog(*Open(), dir_ / "packed", {}).ok());
  std::filesystem::remove_all(dir_ / "c");
  std::filesystem::rename(dir_ / "packed", dir_ / "c");
  ASSERT_TRUE(Append("new").ok());
  ExpectWhole(*Open());
  EXPECT_TRUE(std::filesystem::exists(dir_ / "c/pack-000000.tar"));
}

TEST_F(CatalogAppenderTest, PackingMakesAFirstVersionOfIt) {
  Images("old", {"b/1", "b/3"});
  Images("new", {"b/2", "a/1"});
  ASSERT_TRUE(Import("old").ok());
  ASSERT_TRUE(Append("new").ok());
  ASSERT_TRUE(PackCatalog(*Open(), dir_ / "packed", {}).ok());
  const auto packed = Catalog::Open(dir_ / "packed");
  ASSERT_TRUE(packed.ok()) << packed.status();
  ExpectWhole(**packed);
  EXPECT_THAT(Names(**packed), ElementsAre("a", "b"));
  EXPECT_EQ((*packed)->num_samples(), 4);
}

TEST_F(CatalogAppenderTest, LeftoversGoWithTheNextAppendThatBringsNothing) {
  Images("old", {"a/1"});
  ASSERT_TRUE(Import("old").ok());
  const std::vector<std::string> files = Files();
  for (const char* name : {"samples-2.tbl", "skipped-2.jsonl", "manifest.json.tmp", "pack-2-000000.tar"})
    WriteTestFile(dir_ / absl::StrCat("c/", name), "half");
  WriteTestFile(dir_ / "c/pack-notes.tar", "somebody's");
  ASSERT_TRUE(Append("old").ok());
  EXPECT_EQ(ReadTestFile(dir_ / "c/pack-notes.tar"), "somebody's");
  std::filesystem::remove(dir_ / "c/pack-notes.tar");
  EXPECT_EQ(Files(), files);
}

TEST_F(CatalogAppenderTest, PackingKeepsSplitsThatAreSeveralRanges) {
  Shard("old", {"train/b/1", "test/t/1"});
  Shard("new", {"train/a/1", "train/b/2", "test/s/1"});
  ASSERT_TRUE(Import("old").ok());
  ASSERT_TRUE(Append("new").ok());
  ASSERT_TRUE(PackCatalog(*Open(), dir_ / "packed", {}).ok());
  const auto packed = *Catalog::Open(dir_ / "packed");
  ExpectWhole(*packed);
  EXPECT_THAT(Names(*packed), ElementsAre("a", "b", "s", "t"));
  EXPECT_EQ(packed->Split("train")->identities, 2);
  EXPECT_EQ(packed->Split("train")->samples, 3);
}

TEST_F(CatalogAppenderTest, UnnamedSplitIsTheOnlyOne) {
  Shard("old", {"train/a/1", "train/b/1"});
  Images("new", {"c/1"});
  ASSERT_TRUE(Import("old").ok());
  ASSERT_TRUE(Append("new").ok());
  ASSERT_EQ(Open()->splits().size(), 1);
  EXPECT_EQ(Open()->Split("train")->identities, 3);
}

TEST_F(CatalogAppenderTest, ASplitMoreMustNotBecomeTheDefault) {
  Images("old", {"a/1"});
  Shard("new", {"train/b/1"});
  ASSERT_TRUE(Import("old").ok());
  const auto refused = Append("new");
  EXPECT_TRUE(absl::IsInvalidArgument(refused.status())) << refused.status();
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("--split"));
  CatalogAppendOptions options;
  options.split = "all";
  ASSERT_TRUE(Append("new", options).ok());
  EXPECT_EQ(Open()->Split("all")->identities, 2);
}

TEST_F(CatalogAppenderTest, UnnamedSplitAmongSeveralIsRefused) {
  Shard("old", {"train/a/1", "test/b/1"});
  Images("new", {"c/1"});
  ASSERT_TRUE(Import("old").ok());
  const auto refused = Append("new");
  EXPECT_TRUE(absl::IsInvalidArgument(refused.status())) << refused.status();
  CatalogAppendOptions options;
  options.split = "test";
  ASSERT_TRUE(Append("new", options).ok());
  EXPECT_EQ(Open()->Split("test")->identities, 2);
  EXPECT_EQ(Open()->Split("train")->identities, 1);
}

TEST_F(CatalogAppenderTest, ASplitGrowsBehindAnother) {
  Shard("old", {"train/b/1", "train/c/1", "test/t/1"});
  Shard("new", {"train/a/1", "train/b/2", "test/s/1", "query/q/1"});
  Shard("more", {"test/u/1", "train/z/1", "train/y/1"});
  ASSERT_TRUE(Import("old").ok());
  const std::string first = Open()->fingerprint();
  ASSERT_TRUE(Append("new").ok());
  ASSERT_TRUE(Append("more").ok());
  const auto catalog = Open();
  EXPECT_THAT(Names(*catalog), ElementsAre("b", "c", "t", "a", "q", "s", "y", "z", "u"));
  std::vector<std::string> splits;
  for (const CatalogSplitInfo& split : catalog->splits()) splits.push_back(split.name);
  EXPECT_THAT(splits, ElementsAre("train", "test", "query"));
  const auto train = catalog->Split("");
  ASSERT_TRUE(train.ok());
  EXPECT_EQ(train->identities, 5);
  EXPECT_EQ(train->samples, 6);
  const IdentityRows rows = train->rows();
  std::vector<uint64_t> identities;
  for (uint64_t row = 0; row < rows.size(); ++row) {
    identities.push_back(rows.Identity(row));
    EXPECT_EQ(rows.Row(identities.back()), row);
  }
  EXPECT_THAT(identities, ElementsAre(0, 1, 3, 6, 7));
  EXPECT_FALSE(rows.Contains(2));
  EXPECT_FALSE(rows.Contains(8));
  EXPECT_FALSE(rows.Contains(1000));
  ExpectWhole(*catalog);
  const auto before = CatalogAtVersion(catalog, first);
  EXPECT_EQ((*before)->Split("train")->rows(), IdentityRows(0, 2));
  EXPECT_EQ((*before)->Split("train")->samples, 2);
  EXPECT_TRUE(absl::IsNotFound((*before)->Split("query").status()));
}

// Dies at each of its writes in turn: the old version is there, or the new one, whole, and the next append
// finds its way.
TEST_F(CatalogAppenderTest, ACrashLeavesTheOldVersionOrTheNewOne) {
  Images("old", {"a/1", "b/1"});
  Images("new", {"a/2", "c/1"});
  WriteTestFile(dir_ / "new/c/2.png", "corrupt");
  ASSERT_TRUE(Import("old").ok());
  std::filesystem::copy(dir_ / "c", dir_ / "kept", std::filesystem::copy_options::recursive);
  const std::string old = Open()->fingerprint();
  FaultInjectingFileSystem counting(PosixFileSystem());
  ASSERT_TRUE(Append("new", {}, counting).ok());
  const std::string wanted = Open()->fingerprint();
  const std::vector<std::string> files = Files();
  ASSERT_GT(counting.calls(), 20);
  std::set<std::string> left;
  for (uint64_t call = 0; call < counting.calls(); ++call) {
    std::filesystem::remove_all(dir_ / "c");
    std::filesystem::copy(dir_ / "kept", dir_ / "c", std::filesystem::copy_options::recursive);
    FaultInjectingFileSystem faulty(PosixFileSystem());
    faulty.Inject(
        {call, FaultInjectingFileSystem::Error::kNoSpace, FaultInjectingFileSystem::Lasting::kForGood, 0.5});
    (void)Append("new", {}, faulty).status();
    const auto survivor = Open();
    left.insert(survivor->fingerprint());
    ExpectWhole(*survivor);
    ASSERT_TRUE(Append("new").ok()) << call;
    EXPECT_EQ(Open()->fingerprint(), wanted) << call;
    // What died before the manifest leaves nothing behind; else it is the old version's tables at most.
    if (survivor->fingerprint() == old) {
      EXPECT_EQ(Files(), files) << call;
    }
  }
  EXPECT_THAT(left, ElementsAre(std::min(old, wanted), std::max(old, wanted)));
}

}  // namespace
}  // namespace doppel
