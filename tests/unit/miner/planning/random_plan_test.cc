#include "miner/planning/random_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/conformance/plan_conformance.h"
#include "tests/support/fake_catalog.h"

namespace doppel {
namespace {

using testing::HasSubstr;

v1::PlanSpec RandomSpec(uint32_t p, uint32_t k, uint64_t limit = 0, const std::string& split = "") {
  v1::PlanSpec spec;
  spec.set_name("random");
  spec.set_identities_per_batch(p);
  spec.set_samples_per_identity(k);
  spec.set_identity_limit(limit);
  spec.set_split(split);
  return spec;
}

std::set<uint64_t> Drawn(const Plan& plan, uint64_t epochs) {
  std::set<uint64_t> drawn;
  for (uint64_t cursor = 0; cursor < epochs * plan.coverage().batches_per_epoch; ++cursor) {
    for (uint64_t identity : plan.At(cursor).identities) drawn.insert(identity);
  }
  return drawn;
}

std::vector<PlanWorld> RandomWorlds() {
  std::vector<PlanWorld> worlds;
  auto add = [&](std::string name, std::shared_ptr<const Catalog> catalog, v1::PlanSpec spec) {
    const CatalogSplitInfo split = catalog->Split(spec.split()).value();
    std::function<int64_t(uint64_t)> group = [split](uint64_t i) {
      return i >= split.first_identity && i < split.first_identity + split.identities ? 0 : -1;
    };
    if (spec.identity_limit() != 0) {
      // What a limit covers is fixed: learnt here from another seed.
      auto plan = MakePlan(spec, 12345, catalog, nullptr).value();
      const std::set<uint64_t> covered = Drawn(*plan, 60);
      group = [covered](uint64_t i) { return covered.count(i) > 0 ? 0 : -1; };
    }
    worlds.push_back(
        {std::move(name), std::move(catalog), nullptr, std::move(spec), worlds.size() + 1, false, group});
  };
  add("Even", MakeFakeCatalog(128, 1, 12, 1), RandomSpec(16, 4));
  add("Remainder", MakeFakeCatalog(103, 1, 9, 2), RandomSpec(10, 3));
  add("PIsN", MakeFakeCatalog(23, 2, 5, 3), RandomSpec(23, 2));
  add("PIsMoreThanHalf", MakeFakeCatalog(21, 2, 5, 4), RandomSpec(12, 2));
  add("OneOfEach", MakeFakeCatalog(40, 1, 1, 5), RandomSpec(1, 1));
  add("Train", MakeFakeCatalog(90, 3, 6, 6, {{"train", 70}, {"test", 20}}), RandomSpec(8, 4));
  add("Test", MakeFakeCatalog(90, 3, 6, 6, {{"train", 70}, {"test", 20}}), RandomSpec(8, 4, 0, "test"));
  add("Limit", MakeFakeCatalog(90, 3, 6, 7, {{"test", 20}, {"train", 70}}), RandomSpec(8, 4, 33));
  add("ManyImages", MakeFakeCatalog(30, 40, 80, 8), RandomSpec(5, 8));
  return worlds;
}

INSTANTIATE_TEST_SUITE_P(Random, PlanConformance, testing::ValuesIn(RandomWorlds()), PlanWorldName);

TEST(RandomPlan, LimitCoversTheSameIdentitiesForEverySeed) {
  auto catalog = MakeFakeCatalog(1000, 1, 3, 1);
  const auto a = MakePlan(RandomSpec(10, 1, 100), 1, catalog, nullptr).value();
  const auto b = MakePlan(RandomSpec(10, 1, 100), 2, catalog, nullptr).value();
  EXPECT_EQ(Drawn(*a, 1), Drawn(*b, 1));
  EXPECT_EQ(Drawn(*a, 1).size(), 100u);
  EXPECT_NE(a->At(0).identities, b->At(0).identities);
}

TEST(RandomPlan, AGreaterLimitCoversTheSmallerOne) {
  auto catalog = MakeFakeCatalog(1000, 1, 3, 1);
  const auto small = Drawn(*MakePlan(RandomSpec(10, 1, 100), 1, catalog, nullptr).value(), 1);
  const auto great = Drawn(*MakePlan(RandomSpec(10, 1, 300), 2, catalog, nullptr).value(), 1);
  EXPECT_TRUE(std::includes(great.begin(), great.end(), small.begin(), small.end()));
}

TEST(RandomPlan, LimitIsSpreadOverTheSplit) {
  auto catalog = MakeFakeCatalog(1000, 1, 1, 1);
  const auto drawn = Drawn(*MakePlan(RandomSpec(10, 1, 200), 1, catalog, nullptr).value(), 1);
  const auto lower = std::distance(drawn.begin(), drawn.lower_bound(500));
  EXPECT_GT(lower, 70);
  EXPECT_LT(lower, 130);
}

TEST(RandomPlan, LimitIsReportedAsLeftOut) {
  auto catalog = MakeFakeCatalog(1000, 1, 1, 1);
  const auto plan = MakePlan(RandomSpec(10, 1, 200), 1, catalog, nullptr).value();
  EXPECT_EQ(plan->coverage().left_out, 800u);
  EXPECT_THAT(plan->coverage().left_out_reason, HasSubstr("identity_limit"));
}

TEST(RandomPlan, LimitBeyondTheSplitMeansAll) {
  auto catalog = MakeFakeCatalog(50, 1, 1, 1);
  const auto plan = MakePlan(RandomSpec(10, 1, 5000), 1, catalog, nullptr).value();
  EXPECT_EQ(plan->coverage().identities, 50u);
  EXPECT_EQ(plan->coverage().left_out, 0u);
  EXPECT_TRUE(plan->At(3) == MakePlan(RandomSpec(10, 1), 1, catalog, nullptr).value()->At(3));
}

TEST(RandomPlan, PositionsAreUniform) {
  // Chi-squared over which identity opens an epoch: 99 degrees of freedom, 150 is beyond the 99.9 % point.
  auto catalog = MakeFakeCatalog(100, 1, 1, 1);
  const auto plan = MakePlan(RandomSpec(10, 1), 7, catalog, nullptr).value();
  std::vector<double> count(100, 0);
  for (uint64_t epoch = 0; epoch < 10000; ++epoch) ++count[plan->At(epoch * 10).identities[0]];
  double chi_squared = 0;
  for (double c : count) chi_squared += (c - 100) * (c - 100) / 100;
  EXPECT_LT(chi_squared, 150);
}

TEST(RandomPlan, IdentityWithoutSamplesIsLeftOutOfItsBatch) {
  auto catalog = std::make_shared<FakeCatalog>(std::vector<uint32_t>{3, 0, 2, 1});
  const auto plan = MakePlan(RandomSpec(4, 2), 7, catalog, nullptr).value();
  const PlannedBatch batch = plan->At(5);
  EXPECT_EQ(std::set<uint64_t>(batch.identities.begin(), batch.identities.end()),
            (std::set<uint64_t>{0, 2, 3}));
  EXPECT_EQ(batch.samples.size(), 6u);
}

TEST(RandomPlan, OneIdentityOneImage) {
  const auto plan = MakePlan(RandomSpec(1, 2), 7, MakeFakeCatalog(1, 1, 1, 1), nullptr).value();
  EXPECT_EQ(plan->At(9).samples, (std::vector<uint64_t>{0, 0}));
  EXPECT_EQ(plan->At(9).epoch, 9u);
}

TEST(RandomPlan, RefusesMoreIdentitiesThanThereAre) {
  auto plan = MakePlan(RandomSpec(51, 1), 1, MakeFakeCatalog(50, 1, 1, 1), nullptr);
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(plan.status().message()), HasSubstr("identities_per_batch 51"));
}

TEST(RandomPlan, RefusesALimitBelowP) {
  auto plan = MakePlan(RandomSpec(10, 1, 9), 1, MakeFakeCatalog(50, 1, 1, 1), nullptr);
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(plan.status().message()), HasSubstr("identity_limit"));
}

TEST(RandomPlan, RefusesRunLength) {
  v1::PlanSpec spec = RandomSpec(10, 1);
  spec.set_run_length(1);
  EXPECT_TRUE(MakePlan(spec, 1, MakeFakeCatalog(50, 1, 1, 1), nullptr).ok());
  spec.set_run_length(2);
  EXPECT_THAT(std::string(MakePlan(spec, 1, MakeFakeCatalog(50, 1, 1, 1), nullptr).status().message()),
              HasSubstr("run_length"));
}

TEST(RandomPlan, RefusesAnEmptyCatalog) {
  auto plan = MakePlan(RandomSpec(1, 1), 1, std::make_shared<FakeCatalog>(std::vector<uint32_t>{}), nullptr);
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(RandomPlan, UnknownSplitNamesThoseThereAre) {
  auto plan = MakePlan(RandomSpec(1, 1, 0, "dev"), 1,
                       MakeFakeCatalog(5, 1, 1, 1, {{"train", 3}, {"test", 2}}), nullptr);
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(plan.status().message()), HasSubstr("train"));
}

}  // namespace
}  // namespace doppel
