// The literal first batches of fixed plans. A trainer that resumes, another replica and an audit rely on
// (generation, plan, seed, cursor) naming one batch for ever: if this fails, the function changed, and a plan
// under a new name is wanted instead.

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "miner/planning/plan.h"
#include "tests/support/fake_catalog.h"
#include "tests/support/fake_generation.h"

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

}  // namespace
}  // namespace doppel
