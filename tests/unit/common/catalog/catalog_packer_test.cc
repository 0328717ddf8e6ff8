#include "common/catalog/catalog_packer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "common/catalog/catalog_builder.h"
#include "common/catalog/catalog_lock.h"
#include "common/io/crc32c.h"
#include "tests/support/catalog_fixture.h"
#include "tests/unit/common/catalog/reading.h"

namespace doppel {
namespace {

using doppel::testing::CatalogFixture;
using doppel::testing::CatalogFixtureOptions;
using doppel::testing::ReadAll;
using doppel::testing::ReadTestFile;
using doppel::testing::TempDir;
using doppel::testing::WriteTestFile;
using ::testing::HasSubstr;

class CatalogPackerTest : public ::testing::Test {
 protected:
  static CatalogFixtureOptions Options() {
    CatalogFixtureOptions options;
    options.identities = 12;
    options.test_identities = 4;
    return options;
  }
  PackOptions Raw() const {
    PackOptions pack;
    pack.raw = {2, 3, 1};
    // Stands for a decoder: the image's CRC, again and again.
    pack.decode = [](absl::string_view encoded, const PixelShape& shape, char* out) {
      const uint32_t crc = Crc32c(encoded);
      for (uint64_t i = 0; i < shape.bytes(); ++i) out[i] = static_cast<char>(crc >> (i % 4 * 8));
      return absl::OkStatus();
    };
    return pack;
  }
  std::shared_ptr<const Catalog> Pack(const std::string& name, const PackOptions& options) {
    const auto summary = PackCatalog(*fixture_.catalog(), dir_ / name, options);
    EXPECT_TRUE(summary.ok()) << summary.status();
    auto catalog = Catalog::Open(dir_ / name);
    EXPECT_TRUE(catalog.ok()) << catalog.status();
    return *catalog;
  }
  void ExpectSameNames(const Catalog& packed) {
    const Catalog& from = *fixture_.catalog();
    ASSERT_EQ(packed.num_identities(), from.num_identities());
    ASSERT_EQ(packed.num_samples(), from.num_samples());
    ASSERT_EQ(packed.splits().size(), from.splits().size());
    for (size_t i = 0; i < from.splits().size(); ++i)
      EXPECT_EQ(packed.splits()[i].name, from.splits()[i].name);
    for (uint64_t i = 0; i < from.num_identities(); ++i)
      EXPECT_EQ(packed.IdentityName(i), from.IdentityName(i));
    for (uint64_t s = 0; s < from.num_samples(); ++s) {
      EXPECT_EQ(packed.SampleKey(s), from.SampleKey(s));
      EXPECT_EQ(packed.Sample(s).identity, from.Sample(s).identity);
    }
  }
  TempDir dir_;
  const CatalogFixture fixture_{Options()};
};

TEST_F(CatalogPackerTest, KeepsNumbersKeysBytesAndFingerprint) {
  const auto packed = Pack("p", {});
  ExpectSameNames(*packed);
  EXPECT_EQ(packed->fingerprint(), fixture_.catalog()->fingerprint());
  EXPECT_TRUE(packed->Verify().ok());
  for (uint64_t s = 0; s < packed->num_samples(); ++s) {
    EXPECT_EQ(packed->ReadChecked(s)->data, fixture_.catalog()->Read(s)->data);
    EXPECT_EQ(packed->Encoding(s), SampleEncoding::kImageFile);
  }
}

TEST_F(CatalogPackerTest, SamplesOfAnIdentityFollowOneAnotherInOneShard) {
  PackOptions options;
  options.shard_bytes = 20000;
  const auto packed = Pack("p", options);
  EXPECT_GT(packed->num_sources(), 1);
  for (uint64_t identity = 0; identity < packed->num_identities(); ++identity) {
    const IdentitySamples range = packed->Samples(identity);
    for (uint64_t s = range.first + 1; s < range.first + range.count; ++s) {
      EXPECT_EQ(packed->Sample(s).source, packed->Sample(range.first).source);
      EXPECT_GT(packed->Sample(s).offset, packed->Sample(s - 1).offset);
      EXPECT_LT(packed->Sample(s).offset - packed->Sample(s - 1).offset, packed->Sample(s - 1).size + 2600);
    }
  }
}

TEST_F(CatalogPackerTest, SameBytesWithAnyNumberOfThreads) {
  PackOptions options = Raw();
  options.threads = 1;
  options.shard_bytes = 20000;
  Pack("one", options);
  options.threads = 3;
  Pack("three", options);
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(dir_ / "one")) {
    ++files;
    EXPECT_EQ(ReadTestFile(entry.path()), ReadTestFile(dir_ / "three/" + entry.path().filename().string()));
  }
  EXPECT_GT(files, 6);
}

TEST_F(CatalogPackerTest, RawPixelsAreFlaggedAndArePnmFiles) {
  const auto packed = Pack("p", Raw());
  ExpectSameNames(*packed);
  EXPECT_NE(packed->fingerprint(), fixture_.catalog()->fingerprint());
  EXPECT_TRUE(packed->Verify().ok());
  ASSERT_EQ(packed->Encoding(5), SampleEncoding::kRawPixels);
  const PixelShape shape = packed->RawShape(5);
  EXPECT_EQ(shape.height, 2);
  EXPECT_EQ(shape.width, 3);
  EXPECT_EQ(shape.channels, 1);
  const auto bytes = packed->ReadChecked(5);
  ASSERT_TRUE(bytes.ok());
  EXPECT_EQ(bytes->data.substr(0, bytes->data.size() - 6), "P5\n3 2\n255\n");
  std::string pixels(6, '\0');
  ASSERT_TRUE(Raw().decode(fixture_.catalog()->Read(5)->data, shape, pixels.data()).ok());
  EXPECT_EQ(RawPixels(bytes->data, shape), pixels);
  EXPECT_THAT(ReadTestFile(dir_ / "p/manifest.json"), HasSubstr("\"format_version\": 2"));
}

TEST_F(CatalogPackerTest, TheFolderMayBeMoved) {
  Pack("p", {});
  std::filesystem::rename(dir_ / "p", dir_ / "elsewhere");
  const auto moved = Catalog::Open(dir_ / "elsewhere");
  ASSERT_TRUE(moved.ok());
  EXPECT_TRUE((*moved)->ReadChecked(3).ok());
  EXPECT_EQ((*moved)->SamplePath(3), dir_ / "elsewhere/pack-000000.tar");
}

TEST_F(CatalogPackerTest, ShardsAreAWebDataset) {
  Pack("p", {});
  auto dataset = OpenDataset("webdataset", dir_ / "p");
  ASSERT_TRUE(dataset.ok());
  const ReadAll all(**dataset);
  EXPECT_EQ(all.entries.size(), fixture_.catalog()->num_samples());
  EXPECT_TRUE(all.skips.empty());
  EXPECT_EQ(all.entries[0].identity, fixture_.catalog()->IdentityName(0));
  EXPECT_EQ(all.entries[0].split, "train");
}

TEST_F(CatalogPackerTest, DamagedSamplesFailOrAreLeftOut) {
  const std::string path = fixture_.catalog()->SamplePath(3);
  std::string shard = ReadTestFile(path);
  shard[fixture_.catalog()->Sample(3).offset + 50] ^= 1;
  WriteTestFile(path, shard);
  const auto failed = PackCatalog(*fixture_.catalog(), dir_ / "p", {});
  EXPECT_EQ(failed.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(failed.status().message()), HasSubstr("sample 3"));
  EXPECT_FALSE(std::filesystem::exists(dir_ / "p"));
  PackOptions options;
  options.skip_damaged = true;
  const auto packed = Pack("p", options);
  EXPECT_EQ(packed->num_samples(), fixture_.catalog()->num_samples() - 1);
}

TEST_F(CatalogPackerTest, PackedImagesAreNotOverwrittenByAnImport) {
  Pack("p", {});
  const auto again = PackCatalog(*fixture_.catalog(), dir_ / "p", {});
  EXPECT_EQ(again.status().code(), absl::StatusCode::kAlreadyExists);
  auto dataset = OpenDataset("webdataset", fixture_.data());
  const auto import = BuildCatalog(**dataset, dir_ / "p", {});
  EXPECT_EQ(import.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(import.status().message()), HasSubstr("packed images"));
  EXPECT_TRUE((*Catalog::Open(dir_ / "p"))->ReadChecked(0).ok());
  PackOptions options;
  options.force = true;
  EXPECT_TRUE(PackCatalog(*fixture_.catalog(), dir_ / "p", options).ok());
}

TEST_F(CatalogPackerTest, ImpossibleShapesAreRefused) {
  PackOptions options = Raw();
  for (const PixelShape& shape : {PixelShape{0, 3, 1}, {3, 3, 2}, {3, 40000, 1}, {3, 3, 0}}) {
    options.raw = shape;
    EXPECT_EQ(PackCatalog(*fixture_.catalog(), dir_ / "p", options).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST(CatalogLockTest, OneWriterAtATime) {
  const TempDir dir;
  {
    const auto held = CatalogLock::Take(dir / "c");
    ASSERT_TRUE(held.ok());
    EXPECT_EQ(CatalogLock::Take(dir / "c/").status().code(), absl::StatusCode::kAborted);
    EXPECT_TRUE(CatalogLock::Take(dir / "other").ok());
  }
  EXPECT_FALSE(std::filesystem::exists(dir / "c.lock"));
  EXPECT_TRUE(CatalogLock::Take(dir / "c").ok());
}

}  // namespace
}  // namespace doppel
