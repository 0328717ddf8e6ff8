#include "common/base/permutation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <vector>

namespace doppel {
namespace {

std::vector<uint64_t> All(uint64_t n, uint64_t key) {
  const KeyedPermutation permutation(n, key);
  std::vector<uint64_t> values;
  for (uint64_t i = 0; i < n; ++i) values.push_back(permutation(i));
  return values;
}

TEST(KeyedPermutationTest, IsABijectionWithInverseForEveryNUpTo1000) {
  for (uint64_t n = 1; n <= 1000; ++n) {
    const KeyedPermutation permutation(n, 77);
    std::vector<bool> seen(n);
    for (uint64_t i = 0; i < n; ++i) {
      const uint64_t value = permutation(i);
      ASSERT_LT(value, n) << "n " << n;
      ASSERT_FALSE(seen[value]) << "n " << n;
      seen[value] = true;
      ASSERT_EQ(permutation.Inverse(value), i) << "n " << n;
    }
  }
}

TEST(KeyedPermutationTest, IsABijectionOfAHundredThousand) {
  std::vector<bool> seen(101740);
  for (const uint64_t value : All(101740, 5)) {
    ASSERT_LT(value, seen.size());
    ASSERT_FALSE(seen[value]);
    seen[value] = true;
  }
}

TEST(KeyedPermutationTest, InvertsInHugeDomains) {
  for (const uint64_t n :
       {uint64_t{100000000}, (uint64_t{1} << 32) + 1, (uint64_t{1} << 62) + 3, ~uint64_t{0}}) {
    const KeyedPermutation permutation(n, 3);
    for (uint64_t step = 0; step < 1000; ++step) {
      const uint64_t i = step * (n / 1000);
      const uint64_t value = permutation(i);
      ASSERT_LT(value, n);
      ASSERT_EQ(permutation.Inverse(value), i);
    }
    EXPECT_EQ(permutation.Inverse(permutation(n - 1)), n - 1);
  }
}

TEST(KeyedPermutationTest, SameKeyGivesTheSameOrder) { EXPECT_EQ(All(1000, 8), All(1000, 8)); }

TEST(KeyedPermutationTest, KeysGiveUnrelatedOrders) {
  const std::vector<uint64_t> a = All(1000, 8);
  const std::vector<uint64_t> b = All(1000, 9);
  int same = 0;
  for (size_t i = 0; i < a.size(); ++i) same += a[i] == b[i] ? 1 : 0;
  EXPECT_LT(same, 10);  // 1 is expected
}

TEST(KeyedPermutationTest, SizesGiveUnrelatedOrders) {
  const std::vector<uint64_t> a = All(1000, 8);
  const std::vector<uint64_t> b = All(1001, 8);
  int same = 0;
  for (size_t i = 0; i < a.size(); ++i) same += a[i] == b[i] ? 1 : 0;
  EXPECT_LT(same, 10);
}

TEST(KeyedPermutationTest, EveryElementComesFirstEquallyOften) {
  std::map<uint64_t, int> first;
  for (uint64_t key = 0; key < 10000; ++key) ++first[KeyedPermutation(10, key)(0)];
  for (uint64_t value = 0; value < 10; ++value) EXPECT_NEAR(first[value], 1000, 150) << value;
}

TEST(KeyedPermutationTest, AllOrdersOfThreeOccurEquallyOften) {
  std::map<std::vector<uint64_t>, int> orders;
  for (uint64_t key = 0; key < 6000; ++key) ++orders[All(3, key)];
  EXPECT_EQ(orders.size(), 6U);
  for (const auto& [order, count] : orders) EXPECT_NEAR(count, 1000, 170);
}

TEST(KeyedPermutationTest, NeighboursDoNotStayNeighbours) {
  const std::vector<uint64_t> values = All(10000, 1);
  int close = 0;
  for (size_t i = 1; i < values.size(); ++i) {
    const uint64_t d = values[i] > values[i - 1] ? values[i] - values[i - 1] : values[i - 1] - values[i];
    close += d <= 10 ? 1 : 0;
  }
  EXPECT_NEAR(close, 20, 20);
}

TEST(KeyedPermutationTest, ARangeIsItsElements) {
  for (const uint64_t n : {uint64_t{1}, uint64_t{2}, uint64_t{7}, uint64_t{1000}, uint64_t{101740},
                           (uint64_t{1} << 40) + 1, ~uint64_t{0}}) {
    const KeyedPermutation permutation(n, 11);
    for (const uint64_t count : {0, 1, 4, 5, 8, 9, 16, 17, 32, 33, 255, 256, 257, 600}) {
      if (count > n) continue;
      for (const uint64_t begin : {uint64_t{0}, n - count}) {
        std::vector<uint64_t> range(count, 5);
        permutation.Range(begin, count, range.data());
        for (uint64_t j = 0; j < count; ++j) ASSERT_EQ(range[j], permutation(begin + j)) << n << " " << j;
      }
    }
  }
}

TEST(KeyedPermutationTest, GathersFromAnywhereAlsoInPlace) {
  const KeyedPermutation permutation(500, 4);
  std::vector<uint64_t> in = {499, 3, 3, 0, 77, 250};
  std::vector<uint64_t> out(in.size());
  permutation.Gather(in.data(), in.size(), out.data());
  for (size_t j = 0; j < in.size(); ++j) EXPECT_EQ(out[j], permutation(in[j]));
  permutation.Gather(in.data(), in.size(), in.data());
  EXPECT_EQ(in, out);
}

// A change of the order would silently change every batch that was ever named.
TEST(KeyedPermutationTest, OrderIsPinned) {
  EXPECT_THAT(All(10, 42), testing::ElementsAre(6, 5, 7, 4, 3, 8, 1, 0, 9, 2));
}

}  // namespace
}  // namespace doppel
