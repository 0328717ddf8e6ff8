#include "examples/glyphs/duplicates.h"

#include "gmock/gmock.h"

namespace doppel::glyphs {
namespace {

Identity Drawn(uint32_t code_point, std::vector<std::pair<int, uint64_t>> typeface_and_hash) {
  Identity identity;
  identity.code_point = code_point;
  for (const auto& [typeface, hash] : typeface_and_hash)
    identity.renderings.push_back({typeface, {hash, 0}, 0, 0, 0});
  return identity;
}

UnicodeData Parse(const std::string& text) { return *UnicodeData::Parse(text); }

const char kPlain[] = "0041;A;Lu;0;L;;\n";

TEST(Duplicates, NothingInCommonNoPairs) {
  EXPECT_TRUE(FindDuplicates({Drawn(1, {{0, 5}}), Drawn(2, {{0, 6}})}, Parse(kPlain)).empty());
}

TEST(Duplicates, SamePixelsCountOnlyInTheSameTypeface) {
  const auto pairs =
      FindDuplicates({Drawn(1, {{0, 5}, {1, 7}, {2, 9}}), Drawn(2, {{1, 5}, {2, 9}, {3, 1}})}, Parse(kPlain));
  ASSERT_EQ(pairs.size(), 1u);
  EXPECT_EQ(pairs[0].reason, "identical_bitmap");
  EXPECT_EQ(pairs[0].shared_typefaces, 2u);
  EXPECT_EQ(pairs[0].identical_bitmaps, 1u);
}

TEST(Duplicates, CanonicalClassesGiveAllTheirPairs) {
  // Two compatibility forms of one ideograph: equal to it, and so to each other.
  const auto unicode = Parse("4E00;one;Lo;0;L;;\nF900;c1;Lo;0;L;4E00;\nF901;c2;Lo;0;L;4E00;\n");
  const auto pairs =
      FindDuplicates({Drawn(0x4E00, {{0, 1}}), Drawn(0xF900, {{0, 2}}), Drawn(0xF901, {{0, 3}})}, unicode);
  ASSERT_EQ(pairs.size(), 3u);
  for (const auto& pair : pairs) {
    EXPECT_EQ(pair.reason, "canonical");
    EXPECT_LT(pair.a, pair.b);
    EXPECT_EQ(pair.identical_bitmaps, 0u);
  }
}

TEST(Duplicates, CodePointsThatAreNotIdentitiesAreLeftOut) {
  const auto unicode = Parse("2F00;radical;So;0;ON;<compat> 4E00;\n4E00;one;Lo;0;L;;\n");
  EXPECT_TRUE(FindDuplicates({Drawn(0x2F00, {{0, 1}})}, unicode).empty());
}

TEST(Duplicates, PlaceholdersAreNotPaired) {
  std::vector<Identity> many;
  for (uint32_t c = 1; c <= 33; ++c) many.push_back(Drawn(c, {{0, 5}}));
  EXPECT_TRUE(FindDuplicates(many, Parse(kPlain)).empty());
  many.pop_back();
  EXPECT_EQ(FindDuplicates(many, Parse(kPlain)).size(), 32u * 31 / 2);
}

TEST(Duplicates, CsvHasOneLinePerPair) {
  const auto unicode = Parse("2F00;radical;So;0;ON;<compat> 4E00;\n4E00;one;Lo;0;L;;\n");
  const auto pairs =
      FindDuplicates({Drawn(0x2F00, {{0, 1}, {1, 4}}), Drawn(0x4E00, {{0, 1}, {1, 5}})}, unicode);
  EXPECT_EQ(DuplicatesCsv(pairs),
            "code_point_a,code_point_b,reason,tag,shared_typefaces,identical_bitmaps\n"
            "U+2F00,U+4E00,compatibility,compat,2,1\n");
}

}  // namespace
}  // namespace doppel::glyphs
