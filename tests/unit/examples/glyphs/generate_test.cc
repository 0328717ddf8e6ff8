#include "examples/glyphs/generate.h"

#include <cstdlib>
#include <fstream>
#include <map>
#include <set>

#include "common/image/image.h"
#include "common/io/file_system.h"
#include "gmock/gmock.h"
#include "nlohmann/json.hpp"
#include "tests/unit/examples/glyphs/read_tar.h"

namespace doppel::glyphs {
namespace {

using ::testing::HasSubstr;

// Four small fonts, a few identities: the real thing in a second.
class GenerateTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const TypefaceSpec& typeface : BuiltinTypefaces()) {
      if (typeface.package == "fonts-baekmuk" || typeface.package == "fonts-nanum")
        typefaces_.push_back(typeface);
    }
    const absl::Status fonts = CheckFontFiles(typefaces_, options_.fonts_root);
    ASSERT_TRUE(fonts.ok()) << fonts << ": deploy/install.sh installs them";
    std::string name = ::testing::TempDir() + "/glyphs-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
    options_.quiet = true;
    options_.identities = 60;
    options_.shard_samples = 100;
    options_.out = root_ + "/out";
  }
  void TearDown() override {
    if (root_.empty()) return;
    EXPECT_TRUE(PosixFileSystem().RemoveRecursively(root_).ok());
  }

  static std::map<std::string, std::string> ReadFolder(const std::string& dir) {
    std::map<std::string, std::string> files;
    const std::vector<std::string> names = PosixFileSystem().List(dir).value();
    for (const std::string& name : names) {
      files[name] = *PosixFileSystem().ReadFile(dir + "/" + name);
    }
    return files;
  }

  GenerateOptions options_;
  std::vector<TypefaceSpec> typefaces_;
  std::string root_;
};

TEST_F(GenerateTest, MakesShardsThatSayWhatTheyHold) {
  const auto result = Generate(options_, typefaces_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->identities, 60u);
  EXPECT_EQ(result->test_identities, 6u);
  EXPECT_GE(result->samples, 180u);
  EXPECT_GE(result->shards, 2u);
  EXPECT_FALSE(PosixFileSystem().Exists(options_.out + ".partial"));

  std::map<std::string, std::set<std::string>> identities, splits;
  uint64_t samples = 0;
  for (const auto& [name, bytes] : ReadFolder(options_.out)) {
    if (name.find(".tar") == std::string::npos) continue;
    const auto entries = ReadTar(bytes);
    for (const auto& [file, entry] : entries) {
      if (file.find(".json") == std::string::npos) continue;
      ++samples;
      const std::string key = file.substr(0, file.find('.'));
      const auto json = nlohmann::json::parse(entry.data);
      const std::string identity = json["identity"];
      EXPECT_EQ(key, identity + "_" + std::string(json["typeface"]));
      splits[json["split"]].insert(identity);
      EXPECT_TRUE(identities[identity].insert(json["typeface"]).second);
      const auto image = DecodeImage(entries.at(key + ".png").data, 1);
      ASSERT_TRUE(image.ok()) << image.status();
      EXPECT_EQ(image->height, 48);
      EXPECT_EQ(image->width, 48);
    }
  }
  EXPECT_EQ(samples, result->samples);
  EXPECT_EQ(identities.size(), 60u);
  for (const auto& [identity, of] : identities) EXPECT_GE(of.size(), 3u) << identity;
  EXPECT_EQ(splits["test"].size(), 6u);
  EXPECT_EQ(splits["train"].size(), 54u) << "no identity is in both";
}

TEST_F(GenerateTest, ThreadsDoNotChangeAByte) {
  options_.threads = 1;
  ASSERT_TRUE(Generate(options_, typefaces_).ok());
  const auto one = ReadFolder(options_.out);
  options_.threads = 3;
  options_.out = root_ + "/again";
  ASSERT_TRUE(Generate(options_, typefaces_).ok());
  EXPECT_EQ(ReadFolder(options_.out), one);
}

TEST_F(GenerateTest, SmallerDrawIsPartOfTheLargerOne) {
  auto names = [&] {
    std::set<std::string> keys;
    for (const auto& [name, bytes] : ReadFolder(options_.out)) {
      if (name.find(".tar") == std::string::npos) continue;
      for (const auto& [file, entry] : ReadTar(bytes)) keys.insert(file);
    }
    return keys;
  };
  ASSERT_TRUE(Generate(options_, typefaces_).ok());
  const auto large = names();
  options_.identities = 20;
  options_.out = root_ + "/small";
  ASSERT_TRUE(Generate(options_, typefaces_).ok());
  const auto small = names();
  EXPECT_TRUE(std::includes(large.begin(), large.end(), small.begin(), small.end()));
  EXPECT_LT(small.size(), large.size());
}

TEST_F(GenerateTest, SecondRunLeavesItAsItIs) {
  const auto first = Generate(options_, typefaces_);
  ASSERT_TRUE(first.ok());
  std::ofstream(options_.out + "/note") << "still here";
  const auto second = Generate(options_, typefaces_);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_TRUE(second->already_there);
  EXPECT_EQ(second->samples, first->samples);
  EXPECT_EQ(second->shards, first->shards);
  EXPECT_TRUE(PosixFileSystem().Exists(options_.out + "/note"));
}

TEST_F(GenerateTest, OtherParametersAreNotMixedIn) {
  ASSERT_TRUE(Generate(options_, typefaces_).ok());
  options_.seed = 1;
  EXPECT_EQ(Generate(options_, typefaces_).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(GenerateTest, FoldersOfOthersAreLeftAlone) {
  ASSERT_TRUE(PosixFileSystem().MakeDirectories(options_.out).ok());
  std::ofstream(options_.out + "/thesis.txt") << "mine";
  EXPECT_THAT(Generate(options_, typefaces_).status().message(), HasSubstr("something else"));
  EXPECT_TRUE(PosixFileSystem().Exists(options_.out + "/thesis.txt"));
}

TEST_F(GenerateTest, LeftoversOfABrokenRunAreReplaced) {
  ASSERT_TRUE(PosixFileSystem().MakeDirectories(options_.out + ".partial").ok());
  std::ofstream(options_.out + ".partial/glyphs-999999.tar") << "half";
  ASSERT_TRUE(Generate(options_, typefaces_).ok());
  EXPECT_FALSE(PosixFileSystem().Exists(options_.out + "/glyphs-999999.tar"));
}

TEST_F(GenerateTest, MissingFontsAreNamedWithTheirPackage) {
  options_.fonts_root = root_;
  const auto status = Generate(options_, typefaces_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(status.message(), HasSubstr("apt-get install fonts-baekmuk fonts-nanum"));
}

TEST_F(GenerateTest, NonsenseOptionsAreRefused) {
  options_.size = 3;
  EXPECT_EQ(Generate(options_, typefaces_).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(GenerateTest, DrawsWhatIsThereAndNothingElse) {
  auto fonts = FontSet::Open(typefaces_, options_.fonts_root, 48);
  ASSERT_TRUE(fonts.ok()) << fonts.status();
  Bitmap bitmap;
  int drawn = 0;
  for (uint32_t c : {0x4E00u, 0x9F98u, 0xAC00u, 0x41u, 0x7Cu, 0x2588u, 0x570Bu}) {
    for (int t = 0; t < static_cast<int>(typefaces_.size()); ++t) {
      if (!(*fonts)->Render(t, c, bitmap)) continue;
      ++drawn;
      ASSERT_EQ(bitmap.size(), 48u * 48);
      EXPECT_GT(*std::max_element(bitmap.begin(), bitmap.end()), 32);
    }
  }
  EXPECT_GT(drawn, 15);
  EXPECT_FALSE((*fonts)->Render(0, 0x10FFFF, bitmap)) << "no such glyph";
  EXPECT_FALSE((*fonts)->Render(0, 0x20, bitmap)) << "blank";
}

TEST(BuiltinTypefaces, NamesAreUniqueAndFitForKeys) {
  std::set<std::string> names;
  for (const TypefaceSpec& typeface : BuiltinTypefaces()) {
    EXPECT_TRUE(names.insert(typeface.name).second) << typeface.name;
    EXPECT_EQ(typeface.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-"), std::string::npos);
    EXPECT_FALSE(typeface.files.empty());
  }
  EXPECT_EQ(names.size(), 19u);
}

}  // namespace
}  // namespace doppel::glyphs
