#include "miner/planning/identity_sampler.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <vector>

#include "tests/support/fake_catalog.h"

namespace doppel {
namespace {

std::vector<uint64_t> Take(uint64_t seed, uint32_t k, uint64_t identity, uint64_t epoch, uint32_t n) {
  std::vector<uint64_t> out;
  IdentitySampler(seed, k).Append(identity, epoch, IdentitySamples{1000, n}, &out);
  return out;
}

TEST(IdentitySampler, AppendsToWhatIsThere) {
  std::vector<uint64_t> out = {7};
  IdentitySampler(1, 2).Append(0, 0, IdentitySamples{10, 2}, &out);
  ASSERT_EQ(out.size(), 3u);
  EXPECT_EQ(out[0], 7u);
}

TEST(IdentitySampler, ConsecutiveEpochsWalkOnePermutation) {
  const std::vector<uint64_t> whole = Take(5, 7, 3, 0, 7);  // all positions in order
  EXPECT_EQ(std::set<uint64_t>(whole.begin(), whole.end()).size(), 7u);
  for (uint64_t epoch = 0; epoch < 20; ++epoch) {
    const std::vector<uint64_t> part = Take(5, 3, 3, epoch, 7);
    for (uint64_t j = 0; j < 3; ++j) EXPECT_EQ(part[j], whole[(epoch * 3 + j) % 7]);
  }
}

TEST(IdentitySampler, EveryImageComesEquallyOftenInTheLongRun) {
  std::vector<int> count(10, 0);
  for (uint64_t epoch = 0; epoch < 10; ++epoch) {
    for (uint64_t sample : Take(1, 4, 0, epoch, 10)) ++count[sample - 1000];
  }
  EXPECT_EQ(count, std::vector<int>(10, 4));
}

TEST(IdentitySampler, FewerImagesThanKAreRepeatedFromTheStart) {
  const std::vector<uint64_t> taken = Take(2, 5, 9, 4, 2);
  ASSERT_EQ(taken.size(), 5u);
  EXPECT_NE(taken[0], taken[1]);
  EXPECT_EQ(taken[2], taken[0]);
  EXPECT_EQ(taken[3], taken[1]);
  EXPECT_EQ(taken[4], taken[0]);
  EXPECT_EQ(Take(2, 5, 9, 77, 2), taken);  // whatever the epoch
}

TEST(IdentitySampler, OneImage) { EXPECT_EQ(Take(2, 3, 9, 4, 1), (std::vector<uint64_t>{1000, 1000, 1000})); }

TEST(IdentitySampler, NoImagesGiveNothing) { EXPECT_TRUE(Take(2, 3, 9, 4, 0).empty()); }

TEST(IdentitySampler, SeedsAndIdentitiesHaveOrdersOfTheirOwn) {
  EXPECT_NE(Take(1, 50, 3, 0, 50), Take(2, 50, 3, 0, 50));
  EXPECT_NE(Take(1, 50, 3, 0, 50), Take(1, 50, 4, 0, 50));
}

TEST(IdentitySampler, AllAtOnceAreTheSameAndLeaveOutWhoHasNone) {
  std::vector<uint32_t> counts;
  for (uint32_t i = 0; i < 300; ++i) counts.push_back(i % 7 == 3 ? 0 : i);
  const FakeCatalog catalog(counts);
  for (const uint64_t epoch : {uint64_t{0}, uint64_t{41}, (uint64_t{1} << 40) + 3}) {
    const IdentitySampler sampler(9, 5);
    std::vector<uint64_t> identities, kept, one_by_one, all = {1};
    for (uint64_t i = 300; i-- > 0;) identities.push_back(i);
    for (const uint64_t identity : identities) {
      const IdentitySamples samples = catalog.Samples(identity);
      if (samples.count > 0) kept.push_back(identity);
      sampler.Append(identity, epoch, samples, &one_by_one);
    }
    sampler.AppendAll(catalog, epoch, &identities, &all);
    EXPECT_EQ(identities, kept);
    EXPECT_EQ(all.front(), 1u);
    EXPECT_EQ(std::vector<uint64_t>(all.begin() + 1, all.end()), one_by_one);
  }
}

TEST(IdentitySampler, GreatEpochsDoNotOverflow) {
  const uint32_t n = 4294967291u;
  std::vector<uint64_t> far, near;
  const IdentitySampler sampler(3, 4);
  sampler.Append(1, uint64_t{n} * 1000000007ull + 2, IdentitySamples{0, n}, &far);
  sampler.Append(1, 2, IdentitySamples{0, n}, &near);
  EXPECT_EQ(far, near);
}

}  // namespace
}  // namespace doppel
