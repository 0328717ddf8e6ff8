#include "examples/glyphs/unicode.h"

#include "gmock/gmock.h"

namespace doppel::glyphs {
namespace {

constexpr char kText[] =
    "0020;SPACE;Zs;0;WS;;;;;N;;;;;\n"
    "0041;LATIN CAPITAL LETTER A;Lu;0;L;;;;;N;;;;0061;\n"
    "00C5;LATIN CAPITAL LETTER A WITH RING ABOVE;Lu;0;L;0041 030A;;;;N;;;;00E5;\n"
    "00AD;SOFT HYPHEN;Cf;0;BN;;;;;N;;;;;\n";

constexpr char kMore[] =
    "0041;LATIN CAPITAL LETTER A;Lu;0;L;;;;;N;;;;0061;\n"
    "00C5;LATIN CAPITAL LETTER A WITH RING ABOVE;Lu;0;L;0041 030A;;;;N;;;;00E5;\n"
    "212B;ANGSTROM SIGN;Lu;0;L;00C5;;;;N;ANGSTROM UNIT;;;00E5;\n"
    "3400;<CJK Ideograph Extension A, First>;Lo;0;L;;;;;N;;;;;\n"
    "4DBF;<CJK Ideograph Extension A, Last>;Lo;0;L;;;;;N;;;;;\n"
    "E000;<Private Use, First>;Co;0;L;;;;;N;;;;;\n"
    "F8FF;<Private Use, Last>;Co;0;L;;;;;N;;;;;\n"
    "F900;CJK COMPATIBILITY IDEOGRAPH-F900;Lo;0;L;212B;;;;N;;;;;\n"
    "FF21;FULLWIDTH LATIN CAPITAL LETTER A;Lu;0;L;<wide> 0041;;;;N;;;;FF41;\n";

TEST(UnicodeData, NamesTheLineThatDoesNotAscend) {
  EXPECT_THAT(UnicodeData::Parse(kText).status().message(), ::testing::HasSubstr("line 4"));
}

TEST(UnicodeData, NamesTheLineThatIsNoRecord) {
  EXPECT_THAT(UnicodeData::Parse("0041;A;Lu;0;L;;\nhello\n").status().message(),
              ::testing::HasSubstr("line 2"));
  EXPECT_THAT(UnicodeData::Parse("xyz;A;Lu;0;L;;\n").status().message(), ::testing::HasSubstr("line 1"));
  EXPECT_FALSE(UnicodeData::Parse("").ok());
}

TEST(UnicodeData, DrawnMeansAssignedAndVisible) {
  auto data = UnicodeData::Parse(kMore);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_TRUE(data->IsDrawn(0x41));
  EXPECT_FALSE(data->IsDrawn(0x42)) << "not assigned";
  EXPECT_TRUE(data->IsDrawn(0x3400));
  EXPECT_TRUE(data->IsDrawn(0x4000)) << "inside a range";
  EXPECT_TRUE(data->IsDrawn(0x4DBF));
  EXPECT_FALSE(data->IsDrawn(0x4DC0));
  EXPECT_FALSE(data->IsDrawn(0xE000)) << "private use";
  EXPECT_FALSE(data->IsDrawn(0xF000)) << "private use";
  EXPECT_FALSE(data->IsDrawn(0));
  EXPECT_FALSE(data->IsDrawn(0x10FFFF));
}

TEST(UnicodeData, SpacesAndControlsAreNotDrawn) {
  auto data = UnicodeData::Parse("0007;<control>;Cc;0;BN;;;;;N;BELL;;;;\n0020;SPACE;Zs;0;WS;;;;;N;;;;;\n");
  ASSERT_TRUE(data.ok());
  EXPECT_FALSE(data->IsDrawn(7));
  EXPECT_FALSE(data->IsDrawn(0x20));
}

TEST(UnicodeData, KeepsDecompositionsIntoOneCodePoint) {
  auto data = UnicodeData::Parse(kMore);
  ASSERT_TRUE(data.ok());
  EXPECT_EQ(data->decompositions().size(), 3u) << "a letter with a mark is two";
  EXPECT_EQ(data->decompositions().at(0xFF21).tag, "wide");
  EXPECT_EQ(data->decompositions().at(0xFF21).target, 0x41u);
  EXPECT_EQ(data->decompositions().at(0x212B).tag, "");
}

TEST(UnicodeData, CanonicalFormFollowsTheChain) {
  auto data = UnicodeData::Parse(kMore);
  ASSERT_TRUE(data.ok());
  EXPECT_EQ(data->CanonicalForm(0xF900), 0xC5u);
  EXPECT_EQ(data->CanonicalForm(0x212B), 0xC5u);
  EXPECT_EQ(data->CanonicalForm(0xFF21), 0xFF21u) << "compatibility is not canonical";
  EXPECT_EQ(data->CanonicalForm(0x41), 0x41u);
}

TEST(UnicodeData, ChainsThatGoInCirclesEnd) {
  auto data = UnicodeData::Parse("0041;A;Lu;0;L;0042;\n0042;B;Lu;0;L;0041;\n");
  ASSERT_TRUE(data.ok());
  const uint32_t form = data->CanonicalForm(0x41);
  EXPECT_TRUE(form == 0x41 || form == 0x42);
}

TEST(CodePointName, HasAtLeastFourDigits) {
  EXPECT_EQ(CodePointName(0x41), "U+0041");
  EXPECT_EQ(CodePointName(0x2F800), "U+2F800");
}

}  // namespace
}  // namespace doppel::glyphs
