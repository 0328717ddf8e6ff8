#include "services/ctl/table.h"

#include <gtest/gtest.h>

namespace doppel {
namespace {

TEST(TableTest, ColumnsAreAlignedAndLinesHaveNoTrailingBlanks) {
  Table table({{"NAME"}, {"COUNT", Table::Align::kRight}, {"NOTE"}});
  table.AddRow({"a", "1 000", ""});
  table.AddRow({"longer", "7", "x"});
  EXPECT_EQ(table.Render(),
            "NAME    COUNT  NOTE\n"
            "a       1 000\n"
            "longer      7  x\n");
}

TEST(TableTest, WithoutRowsTitlesAlone) { EXPECT_EQ(Table({{"A"}, {"B"}}).Render(), "A  B\n"); }

TEST(TableTest, ColourIsOnTheTitlesOnly) {
  Table table({{"A"}});
  table.AddRow({"x"});
  EXPECT_EQ(table.Render(true), "\x1b[1mA\x1b[0m\nx\n");
}

TEST(TableTest, WideLettersTakeTwoColumns) {
  Table table({{"A"}, {"B"}});
  table.AddRow({"未末", "x"});
  table.AddRow({"abcd", "y"});
  table.AddRow({"é", "z"});
  EXPECT_EQ(table.Render(), "A     B\n未末  x\nabcd  y\né     z\n");
}

TEST(TableTest, ControlCharactersDoNotReachTheTerminal) {
  Table table({{"A"}});
  table.AddRow({"a\nb\x1b[2J"});
  EXPECT_EQ(table.Render(), "A\na\\nb\\x1b[2J\n");
}

TEST(TableTest, CellsThatAreTooManyOrTooFew) {
  Table table({{"A"}, {"B"}});
  table.AddRow({"1"});
  table.AddRow({"1", "2", "3"});
  EXPECT_EQ(table.Render(), "A  B\n1\n1  2\n");
}

TEST(TableTest, BrokenUtf8IsHarmless) {
  EXPECT_EQ(DisplayWidth("\xff\xfe"), 2);
  EXPECT_EQ(DisplayWidth("\xe6\x9c"), 1);
}

TEST(TableTest, FieldsAreAligned) {
  EXPECT_EQ(RenderFields({{"a", "1"}, {"long", "2"}}), "a     1\nlong  2\n");
}

}  // namespace
}  // namespace doppel
