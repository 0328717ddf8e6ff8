#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/catalog/catalog.h"
#include "common/catalog/catalog_appender.h"
#include "tests/support/catalog_fixture.h"

namespace doppel::testing {

// Data to append, and the catalog "c" that it is appended to.
class AppendFixture : public ::testing::Test {
 protected:
  // "a/1" is an image of identity a.
  void Images(const std::string& folder, const std::vector<std::string>& names, int seed = 0) {
    for (const std::string& name : names) {
      WriteTestFile(dir_ / absl::StrCat(folder, "/", name, ".png"),
                    MakeTestImage(static_cast<int>(name[0]) + seed, name.back(), 8));
    }
  }
  // A shard of images "split/identity/key".
  void Shard(const std::string& folder, const std::vector<std::string>& names) {
    std::vector<std::pair<std::string, std::string>> members;
    for (const std::string& name : names) {
      const std::vector<std::string> parts = absl::StrSplit(name, '/');
      members.emplace_back(absl::StrCat(parts[1], parts[2], ".png"),
                           MakeTestImage(parts[1][0], parts[2][0], 8));
      members.emplace_back(absl::StrCat(parts[1], parts[2], ".json"),
                           absl::StrCat(R"({"identity":")", parts[1], R"(","split":")", parts[0], R"("})"));
    }
    WriteTestFile(dir_ / absl::StrCat(folder, "/0.tar"), MakeTar(members));
  }
  absl::StatusOr<CatalogBuildSummary> Import(const std::string& data, FileSystem& fs = PosixFileSystem()) {
    const auto dataset = OpenDataset("auto", dir_ / data);
    if (!dataset.ok()) return dataset.status();
    return BuildCatalog(**dataset, dir_ / "c", {}, fs);
  }
  absl::StatusOr<CatalogBuildSummary> Append(const std::string& data,
                                             const CatalogAppendOptions& options = {},
                                             FileSystem& fs = PosixFileSystem()) {
    const auto dataset = OpenDataset("auto", dir_ / data);
    if (!dataset.ok()) return dataset.status();
    return AppendToCatalog(**dataset, dir_ / "c", options, fs);
  }
  std::shared_ptr<const Catalog> Open() {
    auto opened = Catalog::Open(dir_ / "c");
    EXPECT_TRUE(opened.ok()) << opened.status();
    return *opened;
  }
  static std::vector<std::string> Names(const Catalog& catalog) {
    std::vector<std::string> names;
    for (uint64_t i = 0; i < catalog.num_identities(); ++i) names.emplace_back(catalog.IdentityName(i));
    return names;
  }
  static std::vector<uint64_t> SamplesOf(const Catalog& catalog, uint64_t identity) {
    std::vector<uint64_t> numbers;
    const IdentitySamples samples = catalog.Samples(identity);
    for (uint64_t j = 0; j < samples.count; ++j) numbers.push_back(samples[j]);
    return numbers;
  }
  // Each sample belongs to whom it says, has a key, and its bytes are those of the import.
  static void ExpectWhole(const Catalog& catalog) {
    EXPECT_TRUE(catalog.Verify().ok()) << catalog.Verify();
    std::set<uint64_t> seen;
    for (uint64_t i = 0; i < catalog.num_identities(); ++i) {
      EXPECT_GT(catalog.Samples(i).count, 0);
      for (const uint64_t s : SamplesOf(catalog, i)) {
        EXPECT_TRUE(seen.insert(s).second) << s;
        EXPECT_EQ(catalog.Sample(s).identity, i);
        EXPECT_FALSE(catalog.SampleKey(s).empty());
        EXPECT_TRUE(catalog.ReadChecked(s).ok()) << catalog.ReadChecked(s).status();
      }
      EXPECT_EQ(*catalog.FindIdentity(catalog.IdentityName(i)), i);
    }
    EXPECT_EQ(seen.size(), catalog.num_samples());
  }
  // All that a catalog says of a sample, by its number.
  static std::vector<std::string> Content(const Catalog& catalog) {
    std::vector<std::string> content;
    for (uint64_t i = 0; i < catalog.num_identities(); ++i) {
      std::string text(catalog.IdentityName(i));
      for (const uint64_t s : SamplesOf(catalog, i)) {
        absl::StrAppend(&text, " ", s, "=", catalog.SampleKey(s), "@", catalog.SamplePath(s));
      }
      content.push_back(text);
    }
    return content;
  }
  std::vector<std::string> Files() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(dir_ / "c"))
      names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }
  TempDir dir_;
};

}  // namespace doppel::testing
