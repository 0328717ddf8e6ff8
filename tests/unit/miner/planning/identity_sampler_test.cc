#include "miner/planning/identity_sampler.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "miner/planning/batch_draw.h"
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
    std::vector<uint64_t> identities, rotations, kept, one_by_one, all = {1};
    for (uint64_t i = 300; i-- > 0;) identities.push_back(i);
    for (const uint64_t identity : identities) {
      const IdentitySamples samples = catalog.Samples(identity);
      if (samples.count > 0) kept.push_back(identity);
      rotations.push_back(epoch + identity % 3);
      sampler.Append(identity, rotations.back(), samples, &one_by_one);
    }
    sampler.AppendAll(catalog, rotations, &identities, &all);
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

TEST(IdentitySampler, DroppedSamplesAreAsIfTheyWereNotThere) {
  const GuardList guard_list = GuardList::Make({}, {1000, 1003, 1004, 1009, 2000}).value();
  const IdentitySampler sampler(4, 3, &guard_list);
  std::map<uint64_t, int> count;
  for (uint64_t epoch = 0; epoch < 12; ++epoch) {
    std::vector<uint64_t> out;
    sampler.Append(7, epoch, IdentitySamples{1000, 10}, &out);
    EXPECT_EQ(std::set<uint64_t>(out.begin(), out.end()).size(), 3u);
    for (uint64_t sample : out) ++count[sample];
  }
  EXPECT_EQ(count,
            (std::map<uint64_t, int>{{1001, 6}, {1002, 6}, {1005, 6}, {1006, 6}, {1007, 6}, {1008, 6}}));
  std::vector<uint64_t> out;
  sampler.Append(8, 0, IdentitySamples{2000, 1}, &out);
  EXPECT_TRUE(out.empty());
}

TEST(IdentitySampler, DropsNothingWithoutAGuardList) {
  const GuardList guard_list;
  std::vector<uint64_t> with, without;
  IdentitySampler(4, 3, &guard_list).Append(7, 5, IdentitySamples{1000, 10}, &with);
  IdentitySampler(4, 3).Append(7, 5, IdentitySamples{1000, 10}, &without);
  EXPECT_EQ(with, without);
}

// Sample i comes from camera cameras[i], as the names of Market-1501 have it.
class CameraCatalog : public FakeCatalog {
 public:
  explicit CameraCatalog(const std::vector<int>& cameras)
      : FakeCatalog({static_cast<uint32_t>(cameras.size())}) {
    for (size_t i = 0; i < cameras.size(); ++i) {
      keys_.push_back(absl::StrFormat("bounding_box_train/0002_c%ds1_%06d_01.jpg", cameras[i], i));
    }
  }
  absl::string_view SampleKey(uint64_t sample) const override { return keys_[sample]; }

 private:
  std::vector<std::string> keys_;
};

TEST(IdentitySampler, SpreadsOverCameras) {
  const std::vector<int> cameras = {1, 1, 1, 1, 1, 1, 2, 2, 3};
  const CameraCatalog catalog(cameras);
  IdentitySampler sampler(4, 4);
  sampler.SpreadOverCameras(&catalog);
  std::set<uint64_t> seen;
  for (uint64_t epoch = 0; epoch < 9; ++epoch) {
    std::vector<uint64_t> out;
    sampler.Append(0, epoch, catalog.Samples(0), &out);
    ASSERT_EQ(out.size(), 4u);
    EXPECT_EQ(std::set<uint64_t>(out.begin(), out.end()).size(), 4u);
    std::set<int> three;
    for (int i = 0; i < 3; ++i) three.insert(cameras[out[i]]);
    EXPECT_EQ(three, (std::set<int>{1, 2, 3}));
    EXPECT_NE(cameras[out[3]], 3);
    seen.insert(out.begin(), out.end());
  }
  EXPECT_EQ(seen.size(), 9u);
}

TEST(KeptPositions, CountsPastThoseLeftOut) {
  const KeptPositions kept(10, {0, 1, 4, 9});
  EXPECT_EQ(kept.size(), 6u);
  std::vector<uint64_t> all;
  for (uint64_t i = 0; i < kept.size(); ++i) all.push_back(kept(i));
  EXPECT_EQ(all, (std::vector<uint64_t>{2, 3, 5, 6, 7, 8}));
}

TEST(BatchDraw, KeepsGuardedOnesAndRepetitionsOut) {
  const GuardList guard_list = GuardList::Make({{1, 2}, {1, 3}}, {}).value();
  BatchDraw draw(guard_list, 4);
  EXPECT_TRUE(draw.Add(1));
  EXPECT_FALSE(draw.Add(1));
  EXPECT_FALSE(draw.Fits(3));
  DrawStream random(1);
  uint64_t identity = 0;
  EXPECT_TRUE(draw.AddFrom(
      5, [](uint64_t i) { return i; }, &random, &identity));
  EXPECT_TRUE(identity == 0 || identity == 4);
  EXPECT_TRUE(draw.AddFrom(
      5, [](uint64_t i) { return i; }, &random, &identity));
  EXPECT_FALSE(draw.AddFrom(
      5, [](uint64_t i) { return i; }, &random, &identity));
}

TEST(BatchDraw, WhatIsSureToFit) {
  EXPECT_EQ(SureToFit(10, {}), 10u);
  EXPECT_EQ(SureToFit(10, {{0, 1}, {1, 2}, {2, 0}}), 8u);  // a clique of three and seven others
  EXPECT_EQ(SureToFit(3, {{0, 1}, {1, 2}, {2, 0}}), 1u);
  EXPECT_EQ(SureToFit(6, {{0, 1}, {1, 2}, {2, 3}, {3, 4}, {4, 5}}), 2u);  // a chain: 1 and 4 block it
}

}  // namespace
}  // namespace doppel
