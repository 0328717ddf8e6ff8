#include "examples/glyphs/split.h"

#include <algorithm>
#include <numeric>

#include "gmock/gmock.h"

namespace doppel::glyphs {
namespace {

std::vector<uint32_t> Range(uint32_t n) {
  std::vector<uint32_t> range(n);
  std::iota(range.begin(), range.end(), 100u);
  return range;
}

TEST(Split, TestSplitIsAtMostATenth) {
  EXPECT_EQ(TestIdentities(100000, 3000), 3000u);
  EXPECT_EQ(TestIdentities(1000, 3000), 100u);
  EXPECT_EQ(TestIdentities(5, 3000), 0u);
}

TEST(Split, TestSplitIsAnAscendingSubset) {
  const auto all = Range(1000);
  const auto test = DrawTestSplit(all, 50, 7);
  ASSERT_EQ(test.size(), 50u);
  EXPECT_TRUE(std::is_sorted(test.begin(), test.end()));
  EXPECT_TRUE(std::includes(all.begin(), all.end(), test.begin(), test.end()));
  EXPECT_EQ(std::adjacent_find(test.begin(), test.end()), test.end());
}

TEST(Split, SeedDecides) {
  const auto all = Range(1000);
  EXPECT_EQ(DrawTestSplit(all, 50, 7), DrawTestSplit(all, 50, 7));
  EXPECT_NE(DrawTestSplit(all, 50, 7), DrawTestSplit(all, 50, 8));
}

TEST(Split, OrderOfInputDoesNotMatter) {
  auto all = Range(1000);
  const auto expected = DrawOrder(all, 3);
  std::reverse(all.begin(), all.end());
  EXPECT_EQ(DrawOrder(all, 3), expected);
}

TEST(Split, DrawOrderIsAPermutation) {
  auto order = DrawOrder(Range(500), 3);
  EXPECT_NE(order, Range(500));
  std::sort(order.begin(), order.end());
  EXPECT_EQ(order, Range(500));
}

TEST(Split, DrawAndTestSplitAreUnrelated) {
  const auto order = DrawOrder(Range(1000), 3);
  std::vector<uint32_t> head(order.begin(), order.begin() + 100);
  std::sort(head.begin(), head.end());
  EXPECT_NE(head, DrawTestSplit(Range(1000), 100, 3));
}

}  // namespace
}  // namespace doppel::glyphs
