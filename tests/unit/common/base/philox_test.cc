#include "common/base/philox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <set>
#include <vector>

namespace doppel {
namespace {

using testing::ElementsAre;

// Random123's kat_vectors, philox4x32 with 10 rounds.
TEST(PhiloxTest, KnownAnswerOfZeros) {
  EXPECT_THAT(Philox(0).Block(0, 0), ElementsAre(0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
}

TEST(PhiloxTest, KnownAnswerOfOnes) {
  EXPECT_THAT(Philox(~uint64_t{0}).Block(~uint64_t{0}, ~uint64_t{0}),
              ElementsAre(0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd));
}

TEST(PhiloxTest, KnownAnswerOfPi) {
  EXPECT_THAT(Philox(0x299f31d0a4093822).Block(0x85a308d3243f6a88, 0x0370734413198a2e),
              ElementsAre(0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1));
}

TEST(PhiloxTest, BitsAreTheFirstHalfOfTheBlock) {
  const Philox philox(17);
  const auto block = philox.Block(3, 4);
  EXPECT_EQ(philox.Bits(3, 4), block[0] | static_cast<uint64_t>(block[1]) << 32);
}

TEST(PhiloxTest, SameArgumentsGiveTheSameBits) { EXPECT_EQ(Philox(5).Bits(6, 7), Philox(5).Bits(6, 7)); }

TEST(PhiloxTest, KeyCounterAndStreamAllMatter) {
  const std::set<uint64_t> bits = {Philox(1).Bits(0, 0), Philox(0).Bits(1, 0), Philox(0).Bits(0, 1),
                                   Philox(0).Bits(0, 0)};
  EXPECT_EQ(bits.size(), 4U);
}

TEST(PhiloxTest, BelowOneIsZero) {
  for (uint64_t i = 0; i < 100; ++i) EXPECT_EQ(Philox(9).Below(1, i), 0U);
}

TEST(PhiloxTest, BelowIsInRangeAndEven) {
  const Philox philox(42);
  std::vector<int> counts(7);
  for (uint64_t i = 0; i < 70000; ++i) {
    const uint64_t value = philox.Below(7, i);
    ASSERT_LT(value, 7U);
    ++counts[value];
  }
  for (const int count : counts) EXPECT_NEAR(count, 10000, 500);  // five standard deviations
}

TEST(PhiloxTest, BelowReachesHighValuesOfALargeBound) {
  const uint64_t bound = (uint64_t{1} << 63) + 12345;
  uint64_t largest = 0;
  for (uint64_t i = 0; i < 1000; ++i) {
    const uint64_t value = Philox(1).Below(bound, i);
    ASSERT_LT(value, bound);
    largest = std::max(largest, value);
  }
  EXPECT_GT(largest, bound / 100 * 98);
}

TEST(PhiloxTest, UniformIsInRangeWithTheRightMean) {
  double sum = 0;
  for (uint64_t i = 0; i < 100000; ++i) {
    const double u = Philox(3).Uniform(i, 1);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
  }
  EXPECT_NEAR(sum / 100000, 0.5, 0.005);
}

TEST(MixKeyTest, OrderMatters) {
  EXPECT_NE(MixKey(1, 2), MixKey(2, 1));
  EXPECT_NE(MixKey(1, 2, 3), MixKey(3, 2, 1));
}

TEST(MixKeyTest, SmallValuesDoNotCollide) {
  std::set<uint64_t> keys;
  for (uint64_t a = 0; a < 300; ++a) {
    for (uint64_t b = 0; b < 300; ++b) keys.insert(MixKey(a, b));
  }
  EXPECT_EQ(keys.size(), 300U * 300U);
}

TEST(PhiloxTest, ManyBlocksAreTheBlocks) {
  for (const uint64_t key : {uint64_t{0}, uint64_t{0x123456789abcdef0}, ~uint64_t{0}}) {
    for (const uint32_t first : {0U, 1U, 8U, 0xfffffe00U}) {
      for (uint32_t count = 0; count < 20; ++count) {
        std::vector<uint32_t> blocks(4 * count + 1, 7);
        Philox(key).Blocks(first, count, blocks.data());
        for (uint32_t i = 0; i < count; ++i) {
          const std::array<uint32_t, 4> block = Philox(key).Block(first + i);
          for (uint32_t word = 0; word < 4; ++word)
            ASSERT_EQ(blocks[4 * i + word], block[word]) << first << " " << count << " " << i;
        }
        EXPECT_EQ(blocks[4 * count], 7U) << "written past the end of " << count;
      }
    }
  }
}

TEST(PhiloxTest, BlocksOfManyKeysAreTheBlocks) {
  std::vector<uint64_t> keys;
  std::vector<uint32_t> counters;
  for (uint32_t count = 0; count < 40; ++count) {
    std::vector<uint32_t> blocks(4 * count + 1, 7);
    Philox::BlocksOfKeys(keys.data(), counters.data(), count, blocks.data());
    for (uint32_t i = 0; i < count; ++i) {
      const std::array<uint32_t, 4> block = Philox(keys[i]).Block(counters[i]);
      for (uint32_t word = 0; word < 4; ++word)
        ASSERT_EQ(blocks[4 * i + word], block[word]) << count << " " << i;
    }
    EXPECT_EQ(blocks[4 * count], 7U) << "written past the end of " << count;
    keys.push_back(MixKey(count, 3));
    counters.push_back(static_cast<uint32_t>(MixKey(count, 4)) >> (count % 32));
  }
}

TEST(MixKeyTest, EveryInputBitReachesAboutHalfOfTheOutput) {
  const uint64_t base = MixKey(123, 456);
  for (int bit = 0; bit < 64; ++bit) {
    EXPECT_GT(__builtin_popcountll(base ^ MixKey(123 ^ uint64_t{1} << bit, 456)), 10);
    EXPECT_GT(__builtin_popcountll(base ^ MixKey(123, 456 ^ uint64_t{1} << bit)), 10);
  }
}

// Batches are named by what these functions give: a change would silently rename them all.
TEST(MixKeyTest, ValuesArePinned) {
  EXPECT_EQ(MixKey(0, 0), 0x2ff145472e2746d6ULL);
  EXPECT_EQ(MixKey(1, 2, 3), 0x3267658adb448aaeULL);
}

}  // namespace
}  // namespace doppel
