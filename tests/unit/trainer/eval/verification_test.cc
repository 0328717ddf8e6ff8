#include "trainer/eval/verification.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <vector>

#include "common/base/philox.h"

namespace doppel {
namespace {

using testing::DoubleEq;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> RandomScores(int n, uint64_t seed) {
  std::vector<float> scores;
  for (int i = 0; i < n; ++i) scores.push_back(static_cast<float>(Philox(seed).Uniform(i)));
  return scores;
}

TEST(TarAtFarTest, HandComputed) {
  // Of 10 impostors one may pass at 0.1: the threshold is the second best, 0.8. Two of four genuine pairs are
  // above it.
  const std::vector<float> genuine = {0.95F, 0.85F, 0.7F, 0.2F};
  const std::vector<float> impostors = {0.9F, 0.8F, 0.7F, 0.6F, 0.5F, 0.4F, 0.3F, 0.2F, 0.1F, 0.0F};
  const TarAtFarResult result = TarAtFar(genuine, impostors, {0.1, 0.2, 0.5});
  ASSERT_THAT(result.points, SizeIs(3));
  EXPECT_EQ(result.points[0].threshold, 0.8F);
  EXPECT_EQ(result.points[0].tar, 0.5);
  EXPECT_EQ(result.points[1].threshold,
            0.7F);  // 0.7 itself does not pass: an impostor with it would be the third
  EXPECT_EQ(result.points[1].tar, 0.5);
  EXPECT_EQ(result.points[2].threshold, 0.4F);
  EXPECT_EQ(result.points[2].tar, 0.75);
  EXPECT_THAT(result.refused, IsEmpty());
}

TEST(TarAtFarTest, TargetsBelowOneImpostorAreRefused) {
  const TarAtFarResult result = TarAtFar({1.0F}, std::vector<float>(100, 0.0F), {0.001, 0.0099, 0.01});
  EXPECT_THAT(result.refused, ElementsAre(0.001, 0.0099));
  ASSERT_THAT(result.points, SizeIs(1));
  EXPECT_EQ(result.points[0].far, 0.01);
  EXPECT_EQ(result.points[0].tar, 1.0);
}

TEST(TarAtFarTest, SenselessTargetsAreRefused) {
  const TarAtFarResult result =
      TarAtFar({1.0F}, {0.0F}, {0, -1, 2, std::numeric_limits<double>::quiet_NaN()});
  EXPECT_THAT(result.refused, SizeIs(4));
}

TEST(TarAtFarTest, TiedImpostorsAllStayOut) {
  // One may pass, but three share the best score: none passes, nor does a genuine pair that ties with them.
  const std::vector<float> impostors = {0.9F, 0.9F, 0.9F, 0.1F};
  const TarAtFarResult result = TarAtFar({0.9F, 0.95F}, impostors, {0.25});
  ASSERT_THAT(result.points, SizeIs(1));
  EXPECT_EQ(result.points[0].tar, 0.5);
}

TEST(TarAtFarTest, FarOfOneAcceptsEverything) {
  const TarAtFarResult result = TarAtFar({-5.0F, 0.5F}, {0.9F, 0.8F}, {1.0});
  ASSERT_THAT(result.points, SizeIs(1));
  EXPECT_EQ(result.points[0].tar, 1.0);
  EXPECT_EQ(result.points[0].threshold, -kInfinity);
}

TEST(TarAtFarTest, NothingGenuineRefusesAll) {
  EXPECT_THAT(TarAtFar({}, {0.5F, 0.4F}, {0.5}).refused, ElementsAre(0.5));
}

TEST(TarAtFarTest, NoImpostorsRefusesAll) {
  EXPECT_THAT(TarAtFar({1.0F}, {}, {0.5}).refused, ElementsAre(0.5));
}

TEST(TarAtFarTest, DecimalTargetsCountAsWritten) {
  // 0.1 * 30 and 1e-3 * 6e8 must not lose one to rounding.
  EXPECT_EQ(ImpostorsNeeded({0.1}, 30), 4U);
  EXPECT_EQ(ImpostorsNeeded({1e-3}, 600000000), 600001U);
  EXPECT_EQ(ImpostorsNeeded({1e-6}, 1000000), 2U);
}

TEST(TarAtFarTest, NeededIsOfTheLargestTargetThatCounts) {
  EXPECT_EQ(ImpostorsNeeded({0.1, 0.01}, 100), 11U);
  EXPECT_EQ(ImpostorsNeeded({1e-9}, 100), 0U);
  EXPECT_EQ(ImpostorsNeeded({1.0}, 100), 100U);
  EXPECT_EQ(ImpostorsNeeded({}, 100), 0U);
}

TEST(TarAtFarTest, FromTheTopAloneIsTheSame) {
  const std::vector<float> genuine = RandomScores(500, 1);
  std::vector<float> impostors = RandomScores(20000, 2);
  const std::vector<double> targets = {1e-4, 1e-3, 0.02};
  const TarAtFarResult whole = TarAtFar(genuine, impostors, targets);
  std::sort(impostors.begin(), impostors.end(), std::greater<float>());
  impostors.resize(ImpostorsNeeded(targets, 20000));
  const TarAtFarResult top = TarAtFarFromTop(genuine, impostors, 20000, targets);
  ASSERT_EQ(top.points.size(), whole.points.size());
  for (size_t i = 0; i < top.points.size(); ++i) {
    EXPECT_EQ(top.points[i].tar, whole.points[i].tar);
    EXPECT_EQ(top.points[i].threshold, whole.points[i].threshold);
  }
}

TEST(TarAtFarTest, FarOfTheThresholdHoldsAndNoLowerOneDoes) {
  const std::vector<float> impostors = RandomScores(5000, 3);
  for (const double target : {0.001, 0.01, 0.1}) {
    const TarAtFarResult result = TarAtFar({0.5F}, impostors, {target});
    ASSERT_THAT(result.points, SizeIs(1));
    const auto accepted = [&](auto passes) {
      return static_cast<double>(std::count_if(impostors.begin(), impostors.end(), passes)) / 5000;
    };
    const float threshold = result.points[0].threshold;
    EXPECT_LE(accepted([&](float s) { return s > threshold; }), target);
    EXPECT_GT(accepted([&](float s) { return s >= threshold; }), target);
  }
}

TEST(LargestValuesTest, KeepsTheLargestOfMany) {
  std::vector<float> values = RandomScores(10000, 4);
  LargestValues largest(100);
  for (size_t i = 0; i < values.size(); i += 37) {
    largest.Add(absl::MakeConstSpan(values).subspan(i, 37));
  }
  std::sort(values.begin(), values.end(), std::greater<float>());
  values.resize(100);
  EXPECT_EQ(largest.Take(), values);
}

TEST(LargestValuesTest, OrderOfAddingDoesNotMatter) {
  const std::vector<float> values = RandomScores(1000, 5);
  const std::vector<float> reversed(values.rbegin(), values.rend());
  LargestValues a(10);
  LargestValues b(10);
  a.Add(values);
  b.Add(reversed);
  EXPECT_EQ(a.Take(), b.Take());
}

TEST(LargestValuesTest, FewerThanCapacityAreAllKept) {
  LargestValues largest(5);
  largest.Add({1.0F, 3.0F, 2.0F});
  EXPECT_EQ(largest.bound(), -kInfinity);
  EXPECT_THAT(largest.Take(), ElementsAre(3.0F, 2.0F, 1.0F));
}

TEST(LargestValuesTest, EqualValuesAreKeptAsOftenAsTheyFit) {
  LargestValues largest(3);
  largest.Add(std::vector<float>(100, 7.0F));
  EXPECT_THAT(largest.Take(), ElementsAre(7.0F, 7.0F, 7.0F));
}

TEST(LargestValuesTest, BoundSortsOutNothingThatCounts) {
  const std::vector<float> values = RandomScores(5000, 6);
  LargestValues all(50);
  LargestValues filtered(50);
  all.Add(values);
  for (const float value : values) {
    if (value > filtered.bound()) filtered.Add({value});
  }
  EXPECT_EQ(all.Take(), filtered.Take());
}

TEST(LargestValuesTest, CapacityZeroKeepsNothing) {
  LargestValues largest(0);
  largest.Add({1.0F, 2.0F});
  EXPECT_THAT(largest.Take(), IsEmpty());
}

TEST(RecallTest, HandComputed) {
  const std::vector<int> ranks = {0, 2, -1, 0, 9};
  EXPECT_EQ(RecallAt(ranks, 1), 0.4);
  EXPECT_EQ(RecallAt(ranks, 3), 0.6);
  EXPECT_EQ(RecallAt(ranks, 10), 0.8);
  EXPECT_EQ(RecallAt(ranks, 1000), 0.8);
}

TEST(RecallTest, NoQueriesIsZero) { EXPECT_EQ(RecallAt({}, 1), 0); }

TEST(CumulativeMatchTest, HandComputed) {
  EXPECT_THAT(CumulativeMatch(std::vector<int>{0, 2, -1, 0, 9}, 4),
              ElementsAre(DoubleEq(0.4), DoubleEq(0.4), DoubleEq(0.6), DoubleEq(0.6)));
}

TEST(CumulativeMatchTest, EqualsRecallAtEveryK) {
  std::vector<int> ranks;
  for (int i = 0; i < 200; ++i) ranks.push_back(static_cast<int>(Philox(1).Below(30, i)) - 2);
  const std::vector<double> curve = CumulativeMatch(ranks, 20);
  for (int k = 1; k <= 20; ++k) EXPECT_DOUBLE_EQ(curve[k - 1], RecallAt(ranks, k));
}

TEST(CumulativeMatchTest, NothingAsked) { EXPECT_THAT(CumulativeMatch(std::vector<int>{0}, 0), IsEmpty()); }

}  // namespace
}  // namespace doppel
