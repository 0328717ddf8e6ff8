#include "examples/glyphs/tar.h"

#include "tests/unit/examples/glyphs/read_tar.h"

namespace doppel::glyphs {
namespace {

TEST(Tar, LibarchiveReadsItBack) {
  std::string tar;
  AppendTarFile("a.png", "picture", tar);
  AppendTarFile("U+672A_noto-sans-cjk.json", std::string(512, 'x'), tar);
  AppendTarFile("empty", "", tar);
  AppendTarFile(std::string(100, 'n'), std::string(100000, '\0'), tar);
  AppendTarEnd(tar);
  const auto entries = ReadTar(tar);
  ASSERT_EQ(entries.size(), 4u);
  EXPECT_EQ(entries.at("a.png").data, "picture");
  EXPECT_EQ(entries.at("a.png").mtime, 0);
  EXPECT_EQ(entries.at("a.png").mode, 0644);
  EXPECT_EQ(entries.at("U+672A_noto-sans-cjk.json").data, std::string(512, 'x'));
  EXPECT_EQ(entries.at("empty").data, "");
  EXPECT_EQ(entries.at(std::string(100, 'n')).data.size(), 100000u);
}

TEST(Tar, IsMadeOfWholeBlocks) {
  std::string tar;
  AppendTarFile("a", "1", tar);
  EXPECT_EQ(tar.size(), 1024u);
  AppendTarEnd(tar);
  EXPECT_EQ(tar.size(), 2048u);
}

TEST(Tar, DependsOnContentAlone) {
  std::string once, again;
  AppendTarFile("a", "1", once);
  AppendTarFile("a", "1", again);
  EXPECT_EQ(once, again);
}

}  // namespace
}  // namespace doppel::glyphs
