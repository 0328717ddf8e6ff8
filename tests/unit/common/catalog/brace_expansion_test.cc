#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/catalog/readers/webdataset_reader.h"

namespace doppel {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(BraceExpansionTest, TextWithoutBracesIsItself) {
  EXPECT_THAT(*ExpandBraces("a/b.tar"), ElementsAre("a/b.tar"));
}

TEST(BraceExpansionTest, RangeKeepsLeadingZeros) {
  EXPECT_THAT(*ExpandBraces("x-{008..010}.tar"), ElementsAre("x-008.tar", "x-009.tar", "x-010.tar"));
}

TEST(BraceExpansionTest, RangeWithoutZerosGrows) {
  EXPECT_THAT(*ExpandBraces("{9..11}"), ElementsAre("9", "10", "11"));
}

TEST(BraceExpansionTest, ListsAndRangesMultiply) {
  EXPECT_THAT(*ExpandBraces("{a,b}-{0..1}"), ElementsAre("a-0", "a-1", "b-0", "b-1"));
}

TEST(BraceExpansionTest, OneElement) { EXPECT_THAT(*ExpandBraces("{5..5}"), ElementsAre("5")); }

TEST(BraceExpansionTest, WrongPatternsAreNamed) {
  for (const char* pattern : {"x-{0..", "x-{5..2}", "x-{a..b}", "x-{..3}", "x-{0..99999999999}"}) {
    const auto result = ExpandBraces(pattern);
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument) << pattern;
    EXPECT_THAT(std::string(result.status().message()), HasSubstr(pattern));
  }
}

TEST(BraceExpansionTest, TooManyFilesAreRefused) {
  EXPECT_EQ(ExpandBraces("{0..9999}{0..9999}").status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace doppel
