#include "miner/representation/identity_ranges.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "common/base/philox.h"

namespace doppel {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(IdentityRangesTest, CountsOnlyWhatIsNew) {
  IdentityRanges ranges;
  EXPECT_EQ(ranges.Add({10, 10}), 10U);
  EXPECT_EQ(ranges.Add({10, 10}), 0U);
  EXPECT_EQ(ranges.Add({15, 10}), 5U);
  EXPECT_EQ(ranges.Add({5, 30}), 15U);
  EXPECT_EQ(ranges.size(), 30U);
}

TEST(IdentityRangesTest, AddingNothingChangesNothing) {
  IdentityRanges ranges;
  EXPECT_EQ(ranges.Add({7, 0}), 0U);
  EXPECT_EQ(ranges.size(), 0U);
  EXPECT_TRUE(ranges.Contains({7, 0}));
  EXPECT_FALSE(ranges.Contains({7, 1}));
}

TEST(IdentityRangesTest, TouchingRangesBecomeOne) {
  IdentityRanges ranges;
  ranges.Add({0, 10});
  ranges.Add({20, 10});
  EXPECT_FALSE(ranges.Contains({0, 30}));
  ranges.Add({10, 10});
  EXPECT_TRUE(ranges.Contains({0, 30}));
}

TEST(IdentityRangesTest, MissingNamesTheGaps) {
  IdentityRanges ranges;
  ranges.Add({10, 10});
  ranges.Add({30, 10});
  EXPECT_THAT(ranges.Missing({0, 50}),
              ElementsAre(IdentityRange{0, 10}, IdentityRange{20, 10}, IdentityRange{40, 10}));
  EXPECT_THAT(ranges.Missing({15, 20}), ElementsAre(IdentityRange{20, 10}));
  EXPECT_THAT(ranges.Missing({12, 5}), IsEmpty());
  EXPECT_THAT(ranges.Missing({0, 10}), ElementsAre(IdentityRange{0, 10}));
}

TEST(IdentityRangesTest, AgreesWithASetOfNumbers) {
  const Philox random(7);
  IdentityRanges ranges;
  std::set<uint64_t> numbers;
  for (uint64_t i = 0; i < 300; ++i) {
    const IdentityRange range = {random.Below(200, i, 1), random.Below(12, i, 2)};
    uint64_t added = 0;
    for (uint64_t n = range.first; n < range.end(); ++n) added += numbers.insert(n).second ? 1 : 0;
    ASSERT_EQ(ranges.Add(range), added);
    ASSERT_EQ(ranges.size(), numbers.size());
    std::set<uint64_t> missing;
    for (const IdentityRange& gap : ranges.Missing({0, 220})) {
      for (uint64_t n = gap.first; n < gap.end(); ++n) missing.insert(n);
    }
    for (uint64_t n = 0; n < 220; ++n) ASSERT_NE(numbers.count(n), missing.count(n)) << n;
  }
}

}  // namespace
}  // namespace doppel
