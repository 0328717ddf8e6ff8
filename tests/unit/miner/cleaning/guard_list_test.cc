#include "miner/cleaning/guard_list.h"

#include <gtest/gtest.h>

namespace doppel {
namespace {

TEST(GuardListTest, EmptyGuardsNothing) {
  const GuardList list;
  EXPECT_TRUE(list.empty());
  EXPECT_FALSE(list.Guarded(1, 2));
  EXPECT_FALSE(list.Dropped(0));
  EXPECT_TRUE(list.Partners(1).empty());
}

TEST(GuardListTest, GuardsBothWays) {
  const GuardList list = GuardList::Make({{7, 3}, {3, 9}}, {5}).value();
  EXPECT_TRUE(list.Guarded(3, 7));
  EXPECT_TRUE(list.Guarded(7, 3));
  EXPECT_FALSE(list.Guarded(7, 9));
  EXPECT_EQ(list.Partners(3), absl::MakeConstSpan({7u, 9u}));
  EXPECT_EQ(list.Partners(9), absl::MakeConstSpan({3u}));
  EXPECT_TRUE(list.Dropped(5));
  EXPECT_FALSE(list.Dropped(4));
}

TEST(GuardListTest, KeepsEachPairAndSampleOnceInOrder) {
  const GuardList list = GuardList::Make({{9, 3}, {3, 9}, {1, 2}}, {8, 2, 8}).value();
  EXPECT_EQ(list.pairs(), (std::vector<GuardList::Pair>{{1, 2}, {3, 9}}));
  EXPECT_EQ(list.samples(), (std::vector<uint64_t>{2, 8}));
}

TEST(GuardListTest, AnIdentityIsNotItsOwnDuplicate) {
  const absl::Status status = GuardList::Make({{4, 4}}, {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace doppel
