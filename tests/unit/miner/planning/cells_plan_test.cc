// The plans whose batches come from one cell, beyond plain subspaces: overlapping ones, categories, weights,
// and the guard list in them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "miner/planning/identity_cells.h"
#include "tests/unit/miner/planning/plan_test_worlds.h"

namespace doppel {
namespace {

using testing::HasSubstr;

// Identities called "c0/…", "c1/…" (`sizes` of each), then some without a category.
class CategoryCatalog : public FakeCatalog {
 public:
  CategoryCatalog(const std::vector<uint32_t>& sizes, uint32_t without)
      : FakeCatalog(Counts(sizes, without)) {
    for (size_t c = 0; c < sizes.size(); ++c) {
      for (uint32_t i = 0; i < sizes[c]; ++i) names_.push_back(absl::StrFormat("c%d/%04d", c, i));
    }
    for (uint32_t i = 0; i < without; ++i) names_.push_back(absl::StrFormat("loose%04d", i));
  }
  absl::string_view IdentityName(uint64_t identity) const override { return names_[identity]; }

 private:
  static std::vector<uint32_t> Counts(const std::vector<uint32_t>& sizes, uint32_t without) {
    uint32_t n = without;
    for (uint32_t size : sizes) n += size;
    std::vector<uint32_t> counts(n);
    for (uint32_t i = 0; i < n; ++i) counts[i] = 1 + i % 6;
    return counts;
  }
  std::vector<std::string> names_;
};

std::vector<PlanWorld> CellWorlds() {
  std::vector<PlanWorld> worlds;
  auto add = [&](const std::string& name, std::shared_ptr<const Catalog> catalog,
                 std::shared_ptr<const Generation> generation, v1::PlanSpec spec,
                 std::function<int64_t(uint64_t)> group, bool one_subspace, bool one_turn) {
    worlds.push_back({name,
                      std::move(catalog),
                      std::move(generation),
                      std::move(spec),
                      500 + worlds.size(),
                      one_subspace,
                      std::move(group),
                      {},
                      one_turn});
  };
  auto catalog = MakeFakeCatalog(240, 1, 9, 1);
  auto plain = NeighbourGeneration(*catalog, "", 5, 0, 8);
  auto guarded = NeighbourGeneration(*catalog, "", 5, 0, 8);
  guarded->SetGuardList(GuardSome(*catalog, 240, {1, 2, 9}));
  auto subspaces = [](const std::shared_ptr<const Generation>& generation) {
    return [generation, covered = CoveredBy(generation)](uint64_t i) -> int64_t {
      return covered(i) < 0 ? -1 : int64_t{generation->SubspaceOf(i)};
    };
  };
  add("Overlap", catalog, plain, NamedSpec("subspace_overlap", 8, 3), CoveredBy(plain), false, false);
  v1::PlanSpec three = NamedSpec("subspace_overlap", 8, 3);
  three.set_overlap(3);
  three.set_run_length(3);
  add("OverlapOfThree", catalog, plain, three, CoveredBy(plain), false, false);
  add("OverlapGuarded", catalog, guarded, three, CoveredBy(guarded), false, false);
  v1::PlanSpec one = NamedSpec("subspace_overlap", 8, 3);
  one.set_overlap(1);
  add("OverlapOfOne", catalog, plain, one, subspaces(plain), true, true);
  v1::PlanSpec weighted = NamedSpec("subspace", 8, 3);
  for (double weight : {1.0, 0.5, 2.0, 0.1, 3.0}) weighted.add_subspace_weight(weight);
  add("Weighted", catalog, plain, weighted, CoveredBy(plain), true, false);
  add("GuardedSubspace", catalog, guarded, NamedSpec("subspace", 6, 3), subspaces(guarded), true, true);
  add("GuardedRandom", catalog, guarded, NamedSpec("random", 20, 3), CoveredBy(guarded), false, true);
  v1::PlanSpec limited = NamedSpec("random", 20, 3);
  limited.set_identity_limit(240);
  add("GuardedRandomOfAll", catalog, guarded, limited, CoveredBy(guarded), false, true);
  auto named = std::make_shared<CategoryCatalog>(std::vector<uint32_t>{30, 5, 64, 41}, 12);
  auto category = [named](uint64_t i) -> int64_t {
    const absl::string_view name = named->IdentityName(i);
    return name[0] != 'c' || name[1] == '1' ? -1 : name[1] - '0';
  };
  add("Category", named, nullptr, NamedSpec("category", 6, 3), category, false, true);
  return worlds;
}

INSTANTIATE_TEST_SUITE_P(Cells, PlanConformance, testing::ValuesIn(CellWorlds()), PlanWorldName);

TEST(OverlapPlan, EveryoneIsInTheSubspacesWithTheNearestCentroids) {
  const auto catalog = MakeFakeCatalog(500, 1, 3, 1);
  const auto generation = NeighbourGeneration(*catalog, "", 7, 0, 6);
  const auto cells = MakeOverlapCells(generation, 3).value();
  std::map<uint64_t, std::set<uint32_t>> found;
  for (uint32_t cell = 0; cell < cells->count(); ++cell) {
    for (uint64_t i = 0; i < cells->size(cell); ++i) {
      EXPECT_TRUE(found[cells->At(cell, i)].insert(cell).second);
      EXPECT_EQ(i < cells->AtHome(cell), generation->SubspaceOf(cells->At(cell, i)) == cell);
    }
    std::vector<uint64_t> gathered(cells->size(cell));
    for (uint64_t i = 0; i < gathered.size(); ++i) gathered[i] = gathered.size() - 1 - i;
    cells->Gather(cell, gathered.size(), gathered.data());
    for (uint64_t i = 0; i < gathered.size(); ++i) {
      EXPECT_EQ(gathered[i], cells->At(cell, gathered.size() - 1 - i));
    }
  }
  for (uint64_t identity = 0; identity < 500; ++identity) {
    const uint32_t home = generation->SubspaceOf(identity);
    std::vector<std::pair<float, uint32_t>> others;
    for (uint32_t s = 0; s < 7; ++s) {
      float dot = 0;
      for (int d = 0; d < 6; ++d) dot += generation->Representation(identity)[d] * generation->Centroid(s)[d];
      if (s != home) others.emplace_back(-dot, s);
    }
    std::sort(others.begin(), others.end());
    EXPECT_EQ(found[identity], (std::set<uint32_t>{home, others[0].second, others[1].second}));
    for (const IdentityCells::Place& place : cells->Places(identity)) {
      EXPECT_EQ(cells->At(place.cell, place.position), identity);
    }
  }
}

TEST(OverlapPlan, AnEpochHasEveryIdentityInEachOfItsSubspaces) {
  const auto catalog = MakeFakeCatalog(600, 4, 9, 1);
  const auto generation = NeighbourGeneration(*catalog, "", 4, 0, 6);
  const auto plan = MakePlan(NamedSpec("subspace_overlap", 10, 2), 1, catalog, generation).value();
  std::map<uint64_t, std::set<int32_t>> visits;
  uint64_t members = 0;
  for (uint64_t cursor = 0; cursor < plan->coverage().batches_per_epoch; ++cursor) {
    const PlannedBatch batch = plan->At(cursor);
    for (uint64_t identity : batch.identities) {
      EXPECT_TRUE(visits[identity].insert(batch.subspace).second);
      ++members;
    }
  }
  EXPECT_GT(members, 2 * 600u - 4 * 10u);  // remainders
  for (const auto& [identity, subspaces] : visits) EXPECT_LE(subspaces.size(), 2u);
}

TEST(OverlapPlan, NeedsRepresentations) {
  const auto catalog = MakeFakeCatalog(100, 1, 3, 1);
  EXPECT_THAT(
      PlanError(NamedSpec("subspace_overlap", 8, 1), catalog, NeighbourGeneration(*catalog, "", 2, 0)),
      HasSubstr("no representations"));
}

TEST(WeightedSubspaces, VisitsAreInProportionAndSizesAsWeightsChangeNothing) {
  const auto catalog = MakeFakeCatalog(1000, 1, 3, 1);
  const auto generation = NeighbourGeneration(*catalog, "", 3, 0);
  v1::PlanSpec spec = NamedSpec("subspace", 10, 1);
  const auto plain = MakePlan(spec, 1, catalog, generation).value();
  for (uint32_t s = 0; s < 3; ++s) spec.add_subspace_weight(generation->Members(s).size() / 10);
  const auto same = MakePlan(spec, 1, catalog, generation).value();
  for (uint64_t cursor = 0; cursor < 300; ++cursor) EXPECT_TRUE(plain->At(cursor) == same->At(cursor));
  spec.clear_subspace_weight();
  for (double weight : {6.0, 0.0, 2.0}) spec.add_subspace_weight(weight);
  const auto weighted = MakePlan(spec, 1, catalog, generation).value();
  std::map<int32_t, int> visits;
  for (uint64_t c = 0; c < weighted->coverage().batches_per_epoch; ++c) ++visits[weighted->At(c).subspace];
  EXPECT_EQ(visits.count(1), 0u);
  EXPECT_NEAR(visits[0], 3 * visits[2], 3);
  EXPECT_EQ(weighted->coverage().left_out, generation->Members(1).size());
}

TEST(WeightedSubspaces, EachSubspaceGoesThroughItsMembersBeforeAnyComesAgain) {
  const auto catalog = MakeFakeCatalog(300, 1, 3, 1);
  const auto generation = NeighbourGeneration(*catalog, "", 2, 0);
  v1::PlanSpec spec = NamedSpec("subspace", 10, 1);
  spec.add_subspace_weight(1);
  spec.add_subspace_weight(4);
  const auto plan = MakePlan(spec, 1, catalog, generation).value();
  const uint64_t own_epoch = generation->Members(0).size() / 10;
  // Order within an epoch is shuffled, so count over whole ones.
  std::map<uint64_t, int> times;
  uint64_t visits = 0, c = 0;
  while (visits < 3 * own_epoch) {
    const uint64_t end = c + plan->coverage().batches_per_epoch;
    for (; c < end; ++c) {
      const PlannedBatch batch = plan->At(c);
      if (batch.subspace != 0) continue;
      ++visits;
      for (uint64_t identity : batch.identities) ++times[identity];
    }
  }
  int most = 0, least = 1000;
  for (uint64_t member : generation->Members(0)) {
    most = std::max(most, times[member]);
    least = std::min(least, times[member]);
  }
  EXPECT_LE(most - least, 3);
}

TEST(WeightedSubspaces, RefusesWeightsThatDoNotFit) {
  const auto catalog = MakeFakeCatalog(300, 1, 3, 1);
  const auto generation = NeighbourGeneration(*catalog, "", 2, 0);
  v1::PlanSpec spec = NamedSpec("subspace", 10, 1);
  spec.add_subspace_weight(1);
  EXPECT_THAT(PlanError(spec, catalog, generation), HasSubstr("2 subspaces"));
  spec.add_subspace_weight(-1);
  EXPECT_THAT(PlanError(spec, catalog, generation), HasSubstr("subspace_weight -1"));
  spec.set_subspace_weight(0, 0);
  spec.set_subspace_weight(1, 0);
  EXPECT_THAT(PlanError(spec, catalog, generation), HasSubstr("weights leave"));
}

TEST(CategoryPlan, BatchesStayInOneCategory) {
  const auto catalog = std::make_shared<CategoryCatalog>(std::vector<uint32_t>{30, 5, 64, 41}, 12);
  const auto plan = MakePlan(NamedSpec("category", 6, 2), 1, catalog, nullptr).value();
  EXPECT_EQ(plan->coverage().left_out, 17u);
  EXPECT_THAT(plan->coverage().left_out_reason, HasSubstr("1 categories"));
  EXPECT_THAT(plan->coverage().left_out_reason, HasSubstr("12 have no \"/\""));
  for (uint64_t cursor = 0; cursor < 40; ++cursor) {
    const PlannedBatch batch = plan->At(cursor);
    EXPECT_EQ(batch.subspace, -1);
    std::set<std::string> categories;
    for (uint64_t identity : batch.identities) {
      categories.insert(std::string(catalog->IdentityName(identity).substr(0, 2)));
    }
    EXPECT_EQ(categories.size(), 1u);
  }
}

TEST(CategoryPlan, SaysSoIfThereAreNoneOrTooSmallOnes) {
  EXPECT_THAT(PlanError(NamedSpec("category", 6, 2), MakeFakeCatalog(50, 1, 3, 1), nullptr),
              HasSubstr("category_separator \"/\""));
  const auto catalog = std::make_shared<CategoryCatalog>(std::vector<uint32_t>{3, 5}, 0);
  EXPECT_THAT(PlanError(NamedSpec("category", 6, 2), catalog, nullptr), HasSubstr("has 5 identities"));
  v1::PlanSpec spec = NamedSpec("category", 2, 2);
  spec.set_category_separator("/000");
  EXPECT_TRUE(MakePlan(spec, 1, catalog, nullptr).ok());
}

TEST(GuardedPlans, PartnersTakeTurnsOverTheEpochs) {
  // One subspace of 12, P = 6, and 0 is guarded against 1, 2 and 3.
  const auto catalog = MakeFakeCatalog(12, 2, 5, 1);
  auto generation = NeighbourGeneration(*catalog, "", 1, 0);
  generation->SetGuardList(GuardList::Make({{0, 1}, {0, 2}, {0, 3}}, {}).value());
  const auto plan = MakePlan(NamedSpec("subspace", 6, 2), 1, catalog, generation).value();
  std::map<uint64_t, int> times;
  for (uint64_t cursor = 0; cursor < 400; ++cursor) {
    for (uint64_t identity : plan->At(cursor).identities) ++times[identity];
  }
  EXPECT_EQ(times.size(), 12u);
  EXPECT_GT(times[0], 60);
  for (uint64_t identity = 4; identity < 12; ++identity) EXPECT_GE(times[identity], 200);
}

TEST(GuardedPlans, ARandomPlanRefusesTheGuardListOfAnotherCatalog) {
  const auto catalog = MakeFakeCatalog(50, 2, 5, 1), other = MakeFakeCatalog(50, 2, 5, 2);
  auto generation = NeighbourGeneration(*other, "", 1, 0);
  EXPECT_TRUE(MakePlan(NamedSpec("random", 6, 2), 1, catalog, generation).ok());
  generation->SetGuardList(GuardList::Make({{0, 1}}, {}).value());
  EXPECT_THAT(PlanError(NamedSpec("random", 6, 2), catalog, generation), HasSubstr("another catalog"));
}

TEST(GuardedPlans, AnEmptyGuardListChangesNoByte) {
  const auto catalog = MakeFakeCatalog(300, 2, 5, 1);
  const auto generation = NeighbourGeneration(*catalog, "", 3, 0);
  auto guarded = NeighbourGeneration(*catalog, "", 3, 0);
  guarded->SetGuardList(GuardList::Make({}, {}).value());
  for (const char* name : {"random", "subspace"}) {
    const auto a = MakePlan(NamedSpec(name, 8, 2), 5, catalog, generation).value();
    const auto b = MakePlan(NamedSpec(name, 8, 2), 5, catalog, guarded).value();
    for (uint64_t cursor = 0; cursor < 100; ++cursor) EXPECT_TRUE(a->At(cursor) == b->At(cursor));
  }
}

}  // namespace
}  // namespace doppel
