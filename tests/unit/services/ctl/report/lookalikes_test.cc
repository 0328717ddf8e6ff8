#include "services/ctl/report/lookalikes.h"

#include <set>

#include "gmock/gmock.h"
#include "tests/unit/services/ctl/report/fakes.h"

namespace doppel::report {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Lookalikes, NearestComeFirst) {
  const FakeGeneration generation(100, 20);
  const auto rows = FindLookalikes(generation, 4, 3);
  ASSERT_FALSE(rows.empty());
  EXPECT_EQ(rows[0].identity, 100u) << "the closest pair of all";
  EXPECT_EQ(rows[0].nearest[0].second, 101u);
  for (const LookalikeRow& row : rows) {
    ASSERT_EQ(row.nearest.size(), 3u);
    EXPECT_EQ(row.nearest[0].second, row.identity ^ 1) << "its twin";
    EXPECT_GE(row.nearest[0].first, row.nearest[1].first);
    EXPECT_GE(row.nearest[1].first, row.nearest[2].first);
  }
}

TEST(Lookalikes, NoIdentityStartsTwoRows) {
  const auto rows = FindLookalikes(FakeGeneration(0, 40), 10, 2);
  std::set<uint64_t> starts;
  for (const LookalikeRow& row : rows) EXPECT_TRUE(starts.insert(row.identity).second);
  EXPECT_LE(rows.size(), 10u);
}

TEST(Lookalikes, LoneIdentityHasNoRow) { EXPECT_TRUE(FindLookalikes(FakeGeneration(0, 1), 5, 3).empty()); }

TEST(Lookalikes, LargeGenerationsAreSampled) {
  const auto rows = FindLookalikes(FakeGeneration(0, 5000), 6, 3);
  EXPECT_EQ(rows.size(), 6u);
}

TEST(Lookalikes, SectionHoldsSmallPicturesAndEscapedNames) {
  const auto html = LookalikeSection(FakeCatalog(20), FakeGeneration(0, 20), 4);
  ASSERT_TRUE(html.ok()) << html.status();
  EXPECT_THAT(*html, HasSubstr("data:image/png;base64,"));
  EXPECT_THAT(*html, HasSubstr("&lt;id 0&gt;"));
  EXPECT_THAT(*html, Not(HasSubstr("<id ")));
  EXPECT_THAT(*html, HasSubstr("generation 7"));
}

}  // namespace
}  // namespace doppel::report
