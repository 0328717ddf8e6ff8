#include "common/image/contact_sheet.h"

#include <algorithm>

#include "gmock/gmock.h"
#include "tests/unit/common/image/test_images.h"

namespace doppel {
namespace {

SheetCell Flat(uint8_t grey, std::string label = "") {
  return {Image{2, 2, 1, {grey, grey, grey, grey}}, std::move(label)};
}

TEST(ContactSheet, PlacesCellsRowByRow) {
  SheetOptions options;
  options.columns = 2;
  options.cell = 4;
  options.gap = 1;
  auto sheet = MakeContactSheet({Flat(10), Flat(20), Flat(30)}, options);
  ASSERT_TRUE(sheet.ok()) << sheet.status();
  EXPECT_EQ(sheet->width, 11);
  EXPECT_EQ(sheet->height, 11);
  EXPECT_EQ(sheet->channels, 1);
  auto at = [&](int x, int y) { return sheet->pixels[y * sheet->width + x]; };
  EXPECT_EQ(at(0, 0), 0);
  EXPECT_EQ(at(1, 1), 10);
  EXPECT_EQ(at(6, 4), 20);
  EXPECT_EQ(at(1, 6), 30);
  EXPECT_EQ(at(6, 6), 0);
}

TEST(ContactSheet, OneColourImageMakesTheSheetColoured) {
  SheetOptions options;
  options.cell = 1;
  options.gap = 0;
  auto sheet = MakeContactSheet({Flat(10), {Image{1, 1, 3, {1, 2, 3}}, ""}}, options);
  ASSERT_TRUE(sheet.ok()) << sheet.status();
  EXPECT_THAT(sheet->pixels, ::testing::ElementsAre(10, 10, 10, 1, 2, 3));
}

TEST(ContactSheet, LabelsArePaintedBelowTheirCell) {
  SheetOptions options;
  options.cell = 48;
  auto plain = MakeContactSheet({Flat(10)}, options);
  auto labelled = MakeContactSheet({Flat(10, "U+672A")}, options);
  ASSERT_TRUE(plain.ok() && labelled.ok());
  ASSERT_GT(labelled->height, plain->height);
  const auto below = labelled->pixels.begin() + (4 + 48) * labelled->width;
  EXPECT_GT(*std::max_element(below, labelled->pixels.end()), 100);
}

TEST(ContactSheet, LongAndForeignLabelsFit) {
  EXPECT_TRUE(
      MakeContactSheet({Flat(1, std::string(500, 'W')), Flat(2, "\xE6\x9C\xAA")}, SheetOptions()).ok());
}

TEST(ContactSheet, BlankCellsAreAllowedNoCellsAreNot) {
  EXPECT_TRUE(MakeContactSheet({{Image{}, ""}}, SheetOptions()).ok());
  EXPECT_FALSE(MakeContactSheet({}, SheetOptions()).ok());
}

TEST(ContactSheet, AnImageThatLiesIsNamed) {
  EXPECT_THAT(MakeContactSheet({Flat(1), {Image{9, 9, 1, {1}}, ""}}, SheetOptions()).status().message(),
              ::testing::HasSubstr("image 1"));
}

}  // namespace
}  // namespace doppel
