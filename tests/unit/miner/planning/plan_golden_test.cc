// The literal first batches of fixed plans. A trainer that resumes, another replica and an audit rely on
// (generation, plan, seed, cursor) naming one batch for ever: if this fails, the function changed, and a plan
// under a new name is wanted instead.

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/philox.h"
#include "miner/planning/plan.h"
#include "tests/support/fake_catalog.h"
#include "tests/support/fake_generation.h"
#include "tests/unit/miner/planning/plan_test_worlds.h"

namespace doppel {
namespace {

using Numbers = std::vector<uint64_t>;

class PlanGolden : public testing::Test {
 protected:
  // 60 identities, identity i with 1 + i % 5 samples, in subspace i % 3.
  PlanGolden() {
    std::vector<uint32_t> samples, assignment;
    for (uint32_t i = 0; i < 60; ++i) {
      samples.push_back(1 + i % 5);
      assignment.push_back(i % 3);
    }
    catalog_ = std::make_shared<FakeCatalog>(samples);
    generation_ = std::make_shared<FakeGeneration>(1, 0, assignment, 3);
    generation_->mutable_info().set_catalog_fingerprint(catalog_->fingerprint());
  }

  PlannedBatch At(const std::string& name, uint64_t limit, uint32_t run_length, uint64_t cursor) {
    v1::PlanSpec spec;
    spec.set_name(name);
    spec.set_identities_per_batch(4);
    spec.set_samples_per_identity(3);
    spec.set_identity_limit(limit);
    spec.set_run_length(run_length);
    return MakePlan(spec, 2024, catalog_, generation_).value()->At(cursor);
  }

  std::shared_ptr<FakeCatalog> catalog_;
  std::shared_ptr<FakeGeneration> generation_;
};

TEST_F(PlanGolden, Random) {
  EXPECT_EQ(At("random", 0, 0, 0).identities, (Numbers{38, 15, 42, 17}));
  EXPECT_EQ(At("random", 0, 0, 0).samples, (Numbers{113, 111, 112, 45, 45, 45, 124, 125, 123, 49, 50, 48}));
  EXPECT_EQ(At("random", 0, 0, 1).identities, (Numbers{19, 18, 16, 30}));
  EXPECT_EQ(At("random", 0, 0, 15).identities, (Numbers{14, 16, 4, 59}));
  EXPECT_EQ(At("random", 0, 0, 1ull << 62).samples,
            (Numbers{174, 171, 172, 133, 131, 132, 146, 148, 147, 66, 67, 69}));
}

TEST_F(PlanGolden, RandomWithALimit) {
  EXPECT_EQ(At("random", 10, 0, 0).identities, (Numbers{26, 16, 45, 21}));
  EXPECT_EQ(At("random", 10, 0, 5).identities, (Numbers{16, 23, 45, 12}));
}

TEST_F(PlanGolden, Subspace) {
  EXPECT_EQ(At("subspace", 0, 0, 0).subspace, 1);
  EXPECT_EQ(At("subspace", 0, 0, 0).identities, (Numbers{49, 22, 4, 58}));
  EXPECT_EQ(At("subspace", 0, 0, 0).samples, (Numbers{146, 148, 147, 63, 64, 65, 14, 12, 11, 174, 171, 172}));
  EXPECT_EQ(At("subspace", 0, 0, 1).identities, (Numbers{51, 36, 39, 6}));
  EXPECT_EQ(At("subspace", 0, 0, 15).identities, (Numbers{53, 38, 17, 26}));
  EXPECT_EQ(At("subspace", 0, 0, 1ull << 62).samples,
            (Numbers{107, 106, 107, 144, 143, 141, 61, 62, 61, 72, 71, 73}));
}

TEST_F(PlanGolden, SubspaceInRuns) {
  EXPECT_EQ(At("subspace", 0, 2, 0).identities, (Numbers{0, 18, 48, 24}));
  EXPECT_EQ(At("subspace", 0, 2, 1).identities, (Numbers{33, 21, 30, 27}));
  EXPECT_EQ(At("subspace", 0, 2, 14).identities, (Numbers{38, 26, 5, 23}));
}

// Everything that a batch says, folded into one number.
uint64_t DigestOf(const PlannedBatch& batch, uint64_t digest) {
  const auto fold = [&digest](uint64_t value) { digest = MixKey(digest, value); };
  fold(batch.cursor);
  fold(batch.epoch);
  fold(static_cast<uint64_t>(int64_t{batch.subspace}));
  fold(batch.identities.size());
  for (uint64_t identity : batch.identities) fold(identity);
  for (uint64_t sample : batch.samples) fold(sample);
  for (char letter : batch.drawn_by) fold(static_cast<uint64_t>(letter));
  fold(static_cast<uint64_t>(std::llround(batch.hard_share * 1e6)));
  fold(batch.subspace_stage.value_or(~uint64_t{0}));
  fold(static_cast<uint64_t>(std::llround(batch.subspace_share * 1e6)));
  return digest;
}

struct DigestCase {
  const char* name;
  const char* plan;
  std::function<void(v1::PlanSpec*)> change;
  uint64_t plain, guarded;  // without and with a guard list
};

// Most have a handful of samples, some hundreds; a split that does not begin at 0.
class PlanDigest : public testing::TestWithParam<DigestCase> {
 protected:
  PlanDigest() {
    const Philox philox(12);
    std::vector<uint32_t> samples;
    for (uint64_t i = 0; i < 3000; ++i) {
      samples.push_back(
          static_cast<uint32_t>(i % 50 == 3 ? 60 + philox.Below(200, i) : 1 + philox.Below(12, i)));
    }
    catalog_ = std::make_shared<FakeCatalog>(
        samples, std::vector<std::pair<std::string, uint64_t>>{{"test", 500}, {"train", 2500}});
  }

  uint64_t Digest(bool guarded) const {
    const std::shared_ptr<FakeGeneration> generation = NeighbourGeneration(*catalog_, "train", 40, 24, 8);
    if (guarded) generation->SetGuardList(GuardSome(*catalog_, 2900, {1, 3, 40, 55}));
    v1::PlanSpec spec = NamedSpec(GetParam().plan, 16, 5);
    GetParam().change(&spec);
    const std::shared_ptr<const Plan> plan = MakePlan(spec, 77, catalog_, generation).value();
    uint64_t digest = 0;
    for (uint64_t cursor = 0; cursor < 200; ++cursor) digest = DigestOf(plan->At(cursor), digest);
    for (uint64_t i = 0; i < 100; ++i) digest = DigestOf(plan->At(MixKey(5, i) >> 2), digest);
    return digest;
  }

  std::shared_ptr<const FakeCatalog> catalog_;
};

TEST_P(PlanDigest, IsWhatItAlwaysWas) { EXPECT_EQ(Digest(false), GetParam().plain); }
TEST_P(PlanDigest, IsWhatItAlwaysWasWithAGuardList) { EXPECT_EQ(Digest(true), GetParam().guarded); }

void AsItIs(v1::PlanSpec* /*spec*/) {}

INSTANTIATE_TEST_SUITE_P(
    Plans, PlanDigest,
    testing::Values(
        DigestCase{"random", "random", AsItIs, 0xc9d6db56bab5c0b5, 0x3af81000b3a103f1},
        DigestCase{"random_limited", "random", [](v1::PlanSpec* spec) { spec->set_identity_limit(700); },
                   0x6ee7199187a48b91, 0xfd864f3cad58a2bc},
        DigestCase{"random_cameras", "random",
                   [](v1::PlanSpec* spec) { spec->set_images(v1::IMAGE_CHOICE_OTHER_CAMERA); },
                   0x1621430d63a154ef, 0x1f2a7afd6d80735d},
        DigestCase{"subspace", "subspace", AsItIs, 0xe774d10ea00dede4, 0x2d4ded399f76a891},
        DigestCase{"subspace_runs", "subspace", [](v1::PlanSpec* spec) { spec->set_run_length(7); },
                   0xa22dabe094a1ff42, 0x95de572b6ab66246},
        DigestCase{"subspace_overlap", "subspace_overlap", AsItIs, 0x7103131b8cf10180, 0xfeaf4a1838acebb3},
        DigestCase{"subspace_overlap_3", "subspace_overlap", [](v1::PlanSpec* spec) { spec->set_overlap(3); },
                   0x72bf1d4514ce67eb, 0xd02d7d201e48fe6a},
        DigestCase{"category", "category", [](v1::PlanSpec* spec) { spec->set_category_separator("7"); },
                   0x010acc524e62baeb, 0xc76114719606064e},
        DigestCase{"nearest_identities", "nearest_identities", AsItIs, 0xc15ac7bb5dfdc71a,
                   0xcd5d983b0dfcbd02},
        DigestCase{"doppelganger", "doppelganger", AsItIs, 0xaa6505d88cf11142, 0xd9a3a231fe8e111c},
        DigestCase{"offline_triplets", "offline_triplets", AsItIs, 0x82d3bc09825cc004, 0xa547d03630d3bd65},
        DigestCase{"offline_triplets_band", "offline_triplets",
                   [](v1::PlanSpec* spec) {
                     spec->set_similarity_max(0.9F);
                     spec->set_similarity_min(0.6F);
                     spec->set_pool(5);
                   },
                   0x62b40233c51a0033, 0x039e0f6e651141cf},
        DigestCase{"look_alikes", "look_alikes", AsItIs, 0x5f3fe0048073001e, 0xb5b4b361b72decad},
        DigestCase{"look_alikes_hardness", "look_alikes",
                   [](v1::PlanSpec* spec) {
                     for (const double share : {0.0, 0.25, 1.0}) {
                       v1::HardnessDecision* decision = spec->add_hardness();
                       decision->set_from_cursor(static_cast<uint64_t>(share * 100));
                       decision->set_hard_share(share);
                     }
                   },
                   0xf22987b5d77d4e30, 0x42a9934b2bc69e2f},
        DigestCase{"mixture", "mixture",
                   [](v1::PlanSpec* spec) {
                     for (const char* part : {"random", "subspace_overlap", "doppelganger"}) {
                       v1::PlanPart& added = *spec->add_part();
                       added.mutable_plan()->set_name(part);
                       added.set_weight(1);
                     }
                   },
                   0x528497076834401b, 0xd1242703bc40a128}),
    [](const testing::TestParamInfo<DigestCase>& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace doppel
