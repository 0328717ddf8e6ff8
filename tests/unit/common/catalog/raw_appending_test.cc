#include "common/catalog/raw_appending.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/catalog/catalog.h"
#include "common/catalog/catalog_packer.h"
#include "common/catalog/catalog_version.h"
#include "common/io/crc32c.h"
#include "tests/support/catalog_fixture.h"
#include "tests/unit/common/catalog/appending.h"

namespace doppel {
namespace {

using doppel::testing::AppendFixture;
using doppel::testing::MakeTestImage;
using doppel::testing::WriteTestFile;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

// Pixels that depend on the image's bytes, unless "undecodable" stands in them.
absl::Status DecodeTwoPixels(absl::string_view encoded, const PixelShape& shape, char* out) {
  if (absl::StrContains(encoded, "undecodable")) return absl::InvalidArgumentError("no pixels");
  std::fill_n(out, shape.bytes(), static_cast<char>(Crc32c(encoded)));
  return absl::OkStatus();
}

class RawAppendTest : public AppendFixture {
 protected:
  static constexpr PixelShape kShape = {1, 2, 1};
  // The catalog of `data`, as raw pixels.
  void Pack(const std::string& data) {
    ASSERT_TRUE(Import(data).ok());
    PackOptions pack;
    pack.raw = kShape;
    pack.decode = DecodeTwoPixels;
    ASSERT_TRUE(PackCatalog(*Open(), dir_ / "packed", pack).ok());
    std::filesystem::remove_all(dir_ / "c");
    std::filesystem::rename(dir_ / "packed", dir_ / "c");
  }
  static CatalogAppendOptions Decoding() {
    CatalogAppendOptions options;
    options.decode = DecodeTwoPixels;
    return options;
  }
  // The image as Images() made it, under its number.
  static void ExpectPixels(const Catalog& catalog, uint64_t sample, const std::string& image) {
    EXPECT_EQ(catalog.Encoding(sample), SampleEncoding::kRawPixels);
    std::string pixels(kShape.bytes(), '\0');
    ASSERT_TRUE(DecodeTwoPixels(image, kShape, pixels.data()).ok());
    EXPECT_EQ(catalog.ReadChecked(sample)->data, PnmHeader(kShape) + pixels) << sample;
  }
};

TEST_F(RawAppendTest, NewImagesBecomePixels) {
  Images("old", {"a/1", "b/1"});
  Images("new", {"a/2", "c/1"});
  Pack("old");
  const std::string first = Open()->fingerprint();
  const auto summary = Append("new", Decoding());
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(summary->new_identities, 1);
  EXPECT_EQ(summary->extended_identities, 1);
  EXPECT_EQ(summary->new_samples, 2);
  const auto catalog = Open();
  ExpectWhole(*catalog);
  EXPECT_THAT(Names(*catalog), ElementsAre("a", "b", "c"));
  EXPECT_THAT(SamplesOf(*catalog, 0), ElementsAre(0, 2));
  ExpectPixels(*catalog, 2, MakeTestImage('a', '2', 8));
  ExpectPixels(*catalog, 3, MakeTestImage('c', '1', 8));
  ExpectPixels(*catalog, 1, MakeTestImage('b', '1', 8));
  EXPECT_EQ((*CatalogAtVersion(catalog, first))->num_samples(), 2);
  // The images are in the catalog's own folder, and it may be moved.
  std::filesystem::remove_all(dir_ / "new");
  std::filesystem::rename(dir_ / "c", dir_ / "moved");
  std::filesystem::create_directory(dir_ / "c");
  ExpectWhole(**Catalog::Open(dir_ / "moved"));
  EXPECT_TRUE(std::filesystem::exists(dir_ / "moved/pack-2-000000.tar"));
}

TEST_F(RawAppendTest, SameDataTwiceChangesNothing) {
  Images("old", {"a/1", "b/1"});
  Images("new", {"a/2", "c/1"});
  Pack("old");
  ASSERT_TRUE(Append("new", Decoding()).ok());
  const std::vector<std::string> files = Files();
  for (const char* data : {"new", "old"}) {
    const auto again = Append(data, Decoding());
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_TRUE(again->unchanged);
    EXPECT_EQ(again->known_samples, 2);
    EXPECT_THAT(again->skipped, IsEmpty());
  }
  EXPECT_EQ(Files(), files);
}

TEST_F(RawAppendTest, ThreeInARowAndPackedAgain) {
  Images("old", {"m/1"});
  Pack("old");
  CatalogAppendOptions options = Decoding();
  options.shard_bytes = 1;  // one for each sample
  for (const char* identity : {"a", "z", "b"}) {
    Images(identity, {absl::StrCat(identity, "/1"), absl::StrCat("m/", identity)});
    const auto summary = Append(identity, options);
    ASSERT_TRUE(summary.ok()) << summary.status();
    ExpectWhole(*Open());
  }
  EXPECT_EQ(Open()->num_sources(), 7);
  EXPECT_THAT(Names(*Open()), ElementsAre("m", "a", "z", "b"));
  ASSERT_TRUE(PackCatalog(*Open(), dir_ / "again", {}).ok());
  const auto again = *Catalog::Open(dir_ / "again");
  ExpectWhole(*again);
  EXPECT_THAT(Names(*again), ElementsAre("a", "b", "m", "z"));
  EXPECT_EQ(again->Encoding(0), SampleEncoding::kRawPixels);
}

TEST_F(RawAppendTest, WhatCannotBeDecodedIsNamed) {
  Images("old", {"a/1"});
  Images("new", {"b/1", "c/1"});
  // Its header is that of an image.
  WriteTestFile(dir_ / "new/b/2.png", MakeTestImage(1, 1, 8) + "undecodable");
  WriteTestFile(dir_ / "new/d/1.png", MakeTestImage(1, 2, 8) + "undecodable");
  Pack("old");
  const std::vector<std::string> files = Files();
  CatalogAppendOptions strict = Decoding();
  strict.build.strict = true;
  EXPECT_TRUE(absl::IsDataLoss(Append("new", strict).status()));
  EXPECT_EQ(Files(), files);
  const auto summary = Append("new", Decoding());
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_THAT(summary->skipped_by_reason, ElementsAre(Pair("corrupt image", 2)));
  EXPECT_EQ(summary->new_identities, 2);
  EXPECT_EQ(summary->new_samples, 2);
  EXPECT_THAT(Names(*Open()), ElementsAre("a", "b", "c"));
  ExpectWhole(*Open());
}

TEST_F(RawAppendTest, NothingDecodableLeavesItAsItWas) {
  Images("old", {"a/1"});
  WriteTestFile(dir_ / "new/d/1.png", MakeTestImage(1, 2, 8) + "undecodable");
  Pack("old");
  const std::vector<std::string> files = Files();
  const auto summary = Append("new", Decoding());
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_TRUE(summary->unchanged);
  EXPECT_EQ(Files(), files);
}

TEST_F(RawAppendTest, DryRunTellsTheFingerprintAndWritesNothing) {
  Images("old", {"a/1"});
  Images("new", {"b/1"});
  Pack("old");
  const std::vector<std::string> files = Files();
  CatalogAppendOptions options = Decoding();
  options.build.dry_run = true;
  const auto dry = Append("new", options);
  ASSERT_TRUE(dry.ok()) << dry.status();
  EXPECT_EQ(Files(), files);
  const auto real = Append("new", Decoding());
  ASSERT_TRUE(real.ok()) << real.status();
  EXPECT_EQ(dry->manifest.fingerprint(), real->manifest.fingerprint());
}

TEST_F(RawAppendTest, AnotherImageUnderAKnownKeyIsNamed) {
  Images("old", {"a/1"});
  Images("new", {"a/1", "a/2"}, 5);
  Pack("old");
  const auto summary = Append("new", Decoding());
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_THAT(summary->skipped_by_reason, ElementsAre(Pair("changed", 1)));
  ExpectPixels(*Open(), 0, MakeTestImage('a', '1', 8));
}

TEST_F(RawAppendTest, WithoutADecoderItSaysWhatToDo) {
  Images("old", {"a/1"});
  Images("new", {"b/1"});
  Pack("old");
  const auto refused = Append("new");
  EXPECT_TRUE(absl::IsFailedPrecondition(refused.status())) << refused.status();
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("pack that again"));
}

TEST(AppendedShardTest, NamesOfAppendsAlone) {
  EXPECT_TRUE(IsAppendedShard("pack-2-000000.tar"));
  EXPECT_TRUE(IsAppendedShard("pack-13-1000000.tar"));
  for (const char* name :
       {"pack-000000.tar", "pack-2-000000.tar.gz", "pack-2-.tar", "pack--000000.tar", "pack-a-000000.tar",
        "pack-2-00000x.tar", "pack-2-3-000000.tar", "unpack-2-000000.tar"})
    EXPECT_FALSE(IsAppendedShard(name)) << name;
}

}  // namespace
}  // namespace doppel
