#include <gtest/gtest.h>

#include "common/catalog/catalog_builder.h"
#include "common/catalog/manifest.h"
#include "common/io/fault_file_system.h"
#include "common/io/memory_file_system.h"
#include "tests/support/catalog_fixture.h"

namespace doppel {
namespace {

using doppel::testing::MakeTestImage;
using doppel::testing::TempDir;
using doppel::testing::WriteTestFile;

// The import dies at each of its writes in turn. What is left is the old catalog or the new one, whole.
class CatalogCrashTest : public ::testing::Test {
 protected:
  CatalogCrashTest() {
    WriteTestFile(dir_ / "old/a/1.png", MakeTestImage(0, 0, 8));
    WriteTestFile(dir_ / "new/a/1.png", MakeTestImage(1, 0, 8));
    WriteTestFile(dir_ / "new/b/1.png", "corrupt");
  }
  absl::StatusOr<CatalogBuildSummary> Import(const std::string& data, FileSystem& fs) {
    const auto dataset = OpenDataset("imagefolder", dir_ / data);
    CatalogBuildOptions options;
    options.force = true;
    options.threads = 1;
    return BuildCatalog(**dataset, "/state/catalog", options, fs);
  }
  // Fingerprint of the catalog, "" if there is none; fails the test if it is not whole.
  std::string Fingerprint(FileSystem& fs) {
    const auto manifest = ReadCatalogManifest(fs, "/state/catalog");
    if (absl::IsNotFound(manifest.status())) return "";
    EXPECT_TRUE(manifest.ok()) << manifest.status();
    for (const v1::FileDigest& file : manifest->files()) {
      const auto size = fs.Size("/state/catalog/" + file.name());
      EXPECT_TRUE(size.ok() && *size == file.size()) << file.name();
    }
    return manifest->fingerprint();
  }
  uint64_t CallsOfAnImport(const std::string& data, bool with_old) {
    InMemoryFileSystem memory;
    if (with_old) {
      EXPECT_TRUE(Import("old", memory).ok());
    }
    FaultInjectingFileSystem faulty(memory);
    EXPECT_TRUE(Import(data, faulty).ok());
    return faulty.calls();
  }
  TempDir dir_;
};

TEST_F(CatalogCrashTest, FirstImportLeavesNothingOrAll) {
  const uint64_t calls = CallsOfAnImport("new", false);
  ASSERT_GT(calls, 15);
  for (uint64_t call = 0; call < calls; ++call) {
    InMemoryFileSystem memory;
    FaultInjectingFileSystem faulty(memory);
    faulty.Inject(
        {call, FaultInjectingFileSystem::Error::kNoSpace, FaultInjectingFileSystem::Lasting::kForGood, 0.5});
    const auto summary = Import("new", faulty);
    EXPECT_FALSE(summary.ok()) << call;
    memory.DropUnsynced();
    Fingerprint(memory);
    // The next import finds its way.
    const auto again = Import("new", memory);
    ASSERT_TRUE(again.ok()) << call << again.status();
    EXPECT_EQ(Fingerprint(memory), again->manifest.fingerprint());
    EXPECT_FALSE(memory.Exists("/state/catalog.tmp"));
  }
}

TEST_F(CatalogCrashTest, ReplacementLeavesTheOldOneOrTheNewOne) {
  const uint64_t calls = CallsOfAnImport("new", true);
  for (uint64_t call = 0; call < calls; ++call) {
    InMemoryFileSystem memory;
    const std::string before = Import("old", memory)->manifest.fingerprint();
    FaultInjectingFileSystem faulty(memory);
    faulty.Inject(
        {call, FaultInjectingFileSystem::Error::kIo, FaultInjectingFileSystem::Lasting::kForGood, 0.5});
    EXPECT_FALSE(Import("new", faulty).ok()) << call;
    // Between the two renames it is aside; the next import brings it back before it does anything else.
    if (Fingerprint(memory).empty()) {
      FaultInjectingFileSystem only_restores(memory);
      only_restores.Inject(
          {1, FaultInjectingFileSystem::Error::kIo, FaultInjectingFileSystem::Lasting::kForGood, 0});
      EXPECT_FALSE(Import("new", only_restores).ok());
      EXPECT_EQ(Fingerprint(memory), before) << call;
    }
    const auto again = Import("new", memory);
    ASSERT_TRUE(again.ok()) << call << again.status();
    EXPECT_EQ(Fingerprint(memory), again->manifest.fingerprint());
    EXPECT_FALSE(memory.Exists("/state/catalog.old") && memory.Exists("/state/catalog.tmp"));
  }
}

}  // namespace
}  // namespace doppel
