#include "trainer/eval/image_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/catalog_fixture.h"

namespace doppel {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(FolderSourceTest, ImagesInOrderOfTheirPaths) {
  const testing::TempDir dir;
  for (const char* name : {"b/2.png", "a/1.JPG", "a/notes.txt", "b/.hidden.png", ".git/x.png", "top.webp"}) {
    testing::WriteTestFile(dir / name, name);
  }
  const auto source = MakeFolderSource(dir.path());
  ASSERT_TRUE(source.ok()) << source.status();
  ASSERT_EQ((*source)->size(), 3);
  EXPECT_EQ((*source)->Name(0), "a/1.JPG");
  EXPECT_EQ((*source)->Name(2), "top.webp");
  EXPECT_EQ((*source)->Read(1)->data, "b/2.png");
  std::vector<std::string> names;
  EXPECT_THAT(FolderLabels(**source, &names), ElementsAre(1, 2, 0));
  EXPECT_THAT(names, ElementsAre(".", "a", "b"));
}

TEST(FolderSourceTest, NothingThereIsNotFound) {
  const testing::TempDir dir;
  EXPECT_EQ(MakeFolderSource(dir / "none").status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(MakeFolderSource(dir.path()).status().message()), HasSubstr("no image"));
}

TEST(MarketNameTest, IdentityAndCamera) {
  const auto parse = [](absl::string_view path) {
    const auto name = ParseMarketName(path);
    return name.ok() ? std::make_pair(name->identity, name->camera)
                     : std::make_pair(int64_t{-9}, int64_t{-9});
  };
  EXPECT_EQ(parse("query/0002_c1s1_000451_03.jpg"), std::make_pair(int64_t{2}, int64_t{1}));
  EXPECT_EQ(parse("-1_c6s3_077467_05.jpg"), std::make_pair(int64_t{-1}, int64_t{6}));
  EXPECT_EQ(parse("a_c9/0000_c12_f3.jpg"), std::make_pair(int64_t{0}, int64_t{12}));
  EXPECT_EQ(parse("x_cat_0007_c3.jpg"), std::make_pair(int64_t{7}, int64_t{3}));
  EXPECT_EQ(ParseMarketName("0002.jpg").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(ParseMarketName("0002_c1/x.jpg").ok());
}

}  // namespace
}  // namespace doppel
