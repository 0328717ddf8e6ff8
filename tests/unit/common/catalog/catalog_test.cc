#include "common/catalog/catalog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/catalog/catalog_builder.h"
#include "common/catalog/manifest.h"
#include "common/io/atomic_file.h"
#include "common/io/memory_file_system.h"
#include "tests/support/catalog_fixture.h"

namespace doppel {
namespace {

using doppel::testing::CatalogFixture;
using doppel::testing::CatalogFixtureOptions;
using doppel::testing::MakeTestImage;
using doppel::testing::ReadTestFile;
using doppel::testing::WriteTestFile;
using ::testing::HasSubstr;

constexpr const char* kTables[] = {"identities.tbl", "samples.tbl", "names.tbl", "keys.tbl"};

CatalogFixtureOptions Splits() {
  CatalogFixtureOptions options;
  options.test_identities = 3;
  return options;
}

TEST(CatalogTest, RoundTrip) {
  const CatalogFixture fixture;
  const Catalog& catalog = *fixture.catalog();
  ASSERT_EQ(catalog.num_identities(), 8);
  ASSERT_EQ(catalog.num_samples(), 32);
  EXPECT_EQ(catalog.fingerprint().size(), 32);
  for (uint64_t i = 0; i < 8; ++i) {
    EXPECT_EQ(catalog.IdentityName(i), absl::StrCat("id00000", i));
    EXPECT_EQ(catalog.Samples(i).first, i * 4);
    EXPECT_EQ(catalog.Samples(i).count, 4);
    for (uint64_t s = 0; s < 4; ++s) {
      const uint64_t sample = i * 4 + s;
      EXPECT_EQ(catalog.SampleKey(sample), absl::StrCat("id00000", i, "/s", s));
      EXPECT_EQ(catalog.Sample(sample).identity, i);
      const auto bytes = catalog.ReadChecked(sample);
      ASSERT_TRUE(bytes.ok()) << bytes.status();
      EXPECT_EQ(bytes->data, MakeTestImage(i, s, 48));
      // What a REFERENCE payload says leads to the same bytes.
      const SampleRecord record = catalog.Sample(sample);
      EXPECT_EQ(ReadTestFile(catalog.SamplePath(sample)).substr(record.offset, record.size), bytes->data);
    }
  }
}

TEST(CatalogTest, BytesOutliveTheCatalog) {
  SampleBytes bytes;
  {
    CatalogFixture fixture;
    bytes = *fixture.catalog()->Read(5);
  }
  EXPECT_EQ(bytes.data, MakeTestImage(1, 1, 48));
}

TEST(CatalogTest, SplitsByName) {
  const CatalogFixture fixture(Splits());
  const Catalog& catalog = *fixture.catalog();
  EXPECT_EQ(catalog.Split("")->name, "train");
  EXPECT_EQ(catalog.Split("train")->identities, 5);
  EXPECT_EQ(catalog.Split("test")->first_identity, 5);
  EXPECT_EQ(catalog.Split("test")->samples, 12);
  EXPECT_EQ(catalog.Split("all")->identities, 8);
  const auto unknown = catalog.Split("validation");
  EXPECT_EQ(unknown.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(unknown.status().message()), HasSubstr("train, test"));
}

TEST(CatalogTest, WithoutSplitsEmptyNameMeansAll) {
  const CatalogFixture fixture;
  EXPECT_EQ(fixture.catalog()->Split("")->name, "all");
  EXPECT_EQ(fixture.catalog()->Split("")->identities, 8);
}

TEST(CatalogTest, FindsEveryIdentityInEverySplit) {
  const CatalogFixture fixture(Splits());
  for (uint64_t i = 0; i < 8; ++i) EXPECT_EQ(*fixture.catalog()->FindIdentity(absl::StrCat("id00000", i)), i);
  EXPECT_EQ(fixture.catalog()->FindIdentity("id0").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(fixture.catalog()->FindIdentity("").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(fixture.catalog()->FindIdentity("zzz").status().code(), absl::StatusCode::kNotFound);
}

TEST(CatalogTest, MissingCatalogSaysHowToMakeOne) {
  const auto catalog = Catalog::Open("/nonexistent/catalog");
  EXPECT_EQ(catalog.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(catalog.status().message()), HasSubstr("doppel import"));
}

TEST(CatalogTest, TableOfAnotherLengthIsRefused) {
  const CatalogFixture fixture;
  for (const char* name : kTables) {
    const std::string path = fixture.directory() + "/" + name;
    const std::string good = ReadTestFile(path);
    for (const size_t size : {size_t{0}, size_t{10}, good.size() - 1}) {
      WriteTestFile(path, good.substr(0, size));
      const auto catalog = Catalog::Open(fixture.directory());
      EXPECT_FALSE(catalog.ok()) << name << " " << size;
      EXPECT_THAT(std::string(catalog.status().message()), HasSubstr(name));
    }
    WriteTestFile(path, good);
  }
  EXPECT_TRUE(Catalog::Open(fixture.directory()).ok());
}

TEST(CatalogTest, DamagedHeaderIsRefusedAtOpen) {
  const CatalogFixture fixture;
  for (const char* name : kTables) {
    for (const size_t at : {0, 8, 12, 16}) {
      const std::string path = fixture.directory() + "/" + name;
      const std::string good = ReadTestFile(path);
      std::string bad = good;
      bad[at] ^= 1;
      WriteTestFile(path, bad);
      EXPECT_EQ(Catalog::Open(fixture.directory()).status().code(), absl::StatusCode::kDataLoss)
          << name << " " << at;
      WriteTestFile(path, good);
    }
  }
}

// Whatever byte of a table is flipped: either Open refuses it or Verify finds it, and nothing reads out of
// bounds.
TEST(CatalogTest, EveryFlippedByteIsFoundAndHarmless) {
  CatalogFixtureOptions options;
  options.identities = 2;
  options.samples_per_identity = 2;
  options.image_size = 8;
  const CatalogFixture fixture(options);
  for (const char* name : kTables) {
    const std::string path = fixture.directory() + "/" + name;
    const std::string good = ReadTestFile(path);
    for (size_t at = 0; at < good.size(); ++at) {
      std::string bad = good;
      bad[at] ^= 0x80;
      WriteTestFile(path, bad);
      const auto catalog = Catalog::Open(fixture.directory());
      if (!catalog.ok()) continue;
      EXPECT_EQ((*catalog)->Verify().code(), absl::StatusCode::kDataLoss) << name << " " << at;
      for (uint64_t i = 0; i < 2; ++i) {
        (*catalog)->IdentityName(i);
        EXPECT_LE((*catalog)->Samples(i).first + (*catalog)->Samples(i).count, 4);
      }
      for (uint64_t s = 0; s < 4; ++s) {
        (*catalog)->SampleKey(s);
        (*catalog)->SamplePath(s);
        (*catalog)->ReadChecked(s).IgnoreError();
      }
    }
    WriteTestFile(path, good);
  }
}

TEST(CatalogTest, VerifyAcceptsAGoodOne) { EXPECT_TRUE(CatalogFixture().catalog()->Verify().ok()); }

// As somebody does who changes it on purpose.
std::string WithoutChecksum(std::string manifest) {
  const std::string field = "\"checksum\": \"";
  return manifest.erase(manifest.find(field) + field.size(), 8);
}

TEST(CatalogTest, VerifyNoticesAnotherFingerprint) {
  const CatalogFixture fixture;
  const std::string path = fixture.directory() + "/manifest.json";
  std::string json = WithoutChecksum(ReadTestFile(path));
  const size_t at = json.find(fixture.catalog()->fingerprint());
  json[at] = json[at] == '0' ? '1' : '0';
  WriteTestFile(path, json);
  EXPECT_EQ((*Catalog::Open(fixture.directory()))->Verify().code(), absl::StatusCode::kDataLoss);
}

TEST(CatalogTest, BrokenOrNewerManifestIsRefused) {
  const CatalogFixture fixture;
  const std::string path = fixture.directory() + "/manifest.json";
  const std::string good = ReadTestFile(path);
  WriteTestFile(path, good.substr(0, good.size() / 2));
  EXPECT_EQ(Catalog::Open(fixture.directory()).status().code(), absl::StatusCode::kDataLoss);
  std::string newer = WithoutChecksum(good);
  newer.replace(newer.find("\"format_version\": 1"), 19, "\"format_version\": 4");
  WriteTestFile(path, newer);
  EXPECT_EQ(Catalog::Open(fixture.directory()).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(CatalogTest, EveryFlippedBitOfTheManifestIsFound) {
  CatalogFixtureOptions options;
  options.identities = 2;
  options.shards = 1;
  const CatalogFixture fixture(options);
  const std::string good = ReadTestFile(fixture.directory() + "/manifest.json");
  InMemoryFileSystem memory;
  uint64_t by_checksum = 0;
  for (size_t bit = 0; bit < 8 * good.size(); ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    ASSERT_TRUE(WriteFileAtomically(memory, "/manifest.json", bad).ok());
    const absl::Status status = ReadCatalogManifest(memory, "").status();
    ASSERT_EQ(status.code(), absl::StatusCode::kDataLoss) << "bit " << bit << " " << status;
    ASSERT_THAT(std::string(status.message()), HasSubstr("/manifest.json"));
    by_checksum += absl::StrContains(status.message(), "\"checksum\" says") ? 1 : 0;
  }
  // The others are no JSON.
  EXPECT_GT(by_checksum, 2 * good.size());
  ASSERT_TRUE(WriteFileAtomically(memory, "/manifest.json", good).ok());
  const auto manifest = ReadCatalogManifest(memory, "");
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ(*FormatCatalogManifest(*manifest), good);
}

TEST(CatalogTest, ManifestWithoutAChecksumIsRead) {
  const CatalogFixture fixture;
  const std::string path = fixture.directory() + "/manifest.json";
  const std::string good = ReadTestFile(path);
  WriteTestFile(path, WithoutChecksum(good));
  EXPECT_TRUE(Catalog::Open(fixture.directory()).ok());
  // As an older program wrote it.
  const std::string older = absl::StrCat(good.substr(0, good.rfind(",\n \"checksum\"")), "\n}\n");
  ASSERT_LT(older.size(), good.size());
  WriteTestFile(path, older);
  const auto catalog = Catalog::Open(fixture.directory());
  ASSERT_TRUE(catalog.ok()) << catalog.status();
  EXPECT_TRUE((*catalog)->Verify().ok());
  // Nothing vouches for a field that it did not know.
  WriteTestFile(path, absl::StrCat("{\"identitie\": \"1\",", older.substr(1)));
  EXPECT_EQ(Catalog::Open(fixture.directory()).status().code(), absl::StatusCode::kDataLoss);
}

TEST(CatalogTest, ManifestChangedInWholeIsNamed) {
  const CatalogFixture fixture;
  const std::string path = fixture.directory() + "/manifest.json";
  std::string json = ReadTestFile(path);
  const size_t at = json.find("train") == std::string::npos ? json.find("all") : json.find("train");
  json.replace(at, 1, "x");
  WriteTestFile(path, json);
  const absl::Status status = Catalog::Open(fixture.directory()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("empty that field"));
}

TEST(CatalogTest, ChangedImageIsDataLoss) {
  const CatalogFixture fixture;
  const std::string path = fixture.catalog()->SamplePath(0);
  std::string shard = ReadTestFile(path);
  shard[fixture.catalog()->Sample(0).offset + 60] ^= 1;
  WriteTestFile(path, shard);
  const auto catalog = *Catalog::Open(fixture.directory());
  EXPECT_TRUE(catalog->Read(0).ok());
  const auto bytes = catalog->ReadChecked(0);
  EXPECT_EQ(bytes.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(bytes.status().message()), HasSubstr("id000000/s0"));
}

TEST(CatalogTest, ShardOfAnotherSizeIsDataLoss) {
  const CatalogFixture fixture;
  const std::string path = fixture.catalog()->SamplePath(0);
  WriteTestFile(path, ReadTestFile(path) + "x");
  EXPECT_EQ((*Catalog::Open(fixture.directory()))->Read(0).status().code(), absl::StatusCode::kDataLoss);
}

TEST(CatalogTest, MissingShardIsNamedAndMayComeBack) {
  const CatalogFixture fixture;
  const std::string path = fixture.catalog()->SamplePath(0);
  std::filesystem::rename(path, path + ".away");
  const auto bytes = fixture.catalog()->Read(0);
  EXPECT_EQ(bytes.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(bytes.status().message()), HasSubstr(path));
  std::filesystem::rename(path + ".away", path);
  EXPECT_TRUE(fixture.catalog()->Read(0).ok());
}

TEST(CatalogTest, ImageFolderFilesThatChangedOrVanished) {
  CatalogFixtureOptions options;
  options.format = CatalogFixtureOptions::Format::kImageFolder;
  const CatalogFixture fixture(options);
  EXPECT_EQ(fixture.catalog()->SamplePath(0), fixture.data() + "/id000000/s0.png");
  WriteTestFile(fixture.catalog()->SamplePath(0), "shorter");
  EXPECT_EQ(fixture.catalog()->Read(0).status().code(), absl::StatusCode::kDataLoss);
  std::filesystem::remove(fixture.catalog()->SamplePath(1));
  EXPECT_EQ(fixture.catalog()->Read(1).status().code(), absl::StatusCode::kNotFound);
}

TEST(CatalogTest, ReadsFromManyThreadsAtOnce) {
  const CatalogFixture fixture;
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (uint64_t s = 0; s < 32; ++s) good += fixture.catalog()->ReadChecked(s).ok();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 4 * 32);
}

// The specification's literal bytes.
TEST(CatalogTest, FirstBytesOfTheTables) {
  const CatalogFixture fixture;
  const std::string identities = ReadTestFile(fixture.directory() + "/identities.tbl");
  EXPECT_EQ(identities.substr(0, 32),
            std::string("DPLIDENT\1\0\0\0\x10\0\0\0\x09\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 32));
  EXPECT_EQ(identities.size(), 32 + 9 * 16);
  const std::string samples = ReadTestFile(fixture.directory() + "/samples.tbl");
  EXPECT_EQ(samples.substr(0, 24), std::string("DPLSAMPL\1\0\0\0\x20\0\0\0\x21\0\0\0\0\0\0\0", 24));
  EXPECT_EQ(samples.size(), 32 + 33 * 32);
  EXPECT_EQ(ReadTestFile(fixture.directory() + "/names.tbl").substr(0, 16),
            std::string("DPLNAMES\1\0\0\0\1\0\0\0", 16));
  EXPECT_EQ(ReadTestFile(fixture.directory() + "/keys.tbl").substr(0, 16),
            std::string("DPLKEYS\n\1\0\0\0\1\0\0\0", 16));
}

}  // namespace
}  // namespace doppel
