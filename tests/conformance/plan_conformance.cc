#include "tests/conformance/plan_conformance.h"

#include <algorithm>
#include <thread>

#include "common/base/permutation.h"

namespace doppel {

TEST_P(PlanConformance, EveryBatchHasPDistinctIdentitiesAndKSamplesOfEach) {
  for (uint64_t cursor = 0; cursor < 2 * BatchesPerEpoch(); ++cursor)
    ExpectWellFormed(plan_->At(cursor), cursor);
}

TEST_P(PlanConformance, CoverageAddsUp) {
  uint64_t covered = 0, batches = 0;
  for (const auto& [group, members] : groups_) {
    covered += members.size();
    batches += members.size() / TurnsPerBatch();
  }
  const PlanCoverage& coverage = plan_->coverage();
  EXPECT_EQ(coverage.identities, covered);
  if (world().one_turn) {
    EXPECT_EQ(coverage.batches_per_epoch, batches);
  }
  EXPECT_GT(coverage.batches_per_epoch, 0u);
  EXPECT_EQ(coverage.identities + coverage.left_out,
            world().catalog->Split(world().spec.split())->identities);
  EXPECT_EQ(coverage.left_out == 0, coverage.left_out_reason.empty());
}

TEST_P(PlanConformance, AnEpochHoldsEveryIdentityOnceExceptTheRemainder) {
  if (!world().one_turn) return;
  for (uint64_t epoch : {0, 1, 2, 13}) {
    const auto seen = Epoch(epoch);  // expects that none comes twice
    for (const auto& [group, members] : groups_) {
      // With a guard list, those without a partner keep their turns.
      const auto left_out = std::count_if(members.begin(), members.end(), [&](uint64_t i) {
        return seen.count(i) == 0 && guard_list().Partners(i).empty();
      });
      const uint64_t remainder = members.size() % TurnsPerBatch();
      if (guard_list().pairs().empty()) {
        EXPECT_EQ(left_out, remainder) << "group " << group << ", epoch " << epoch;
      } else {
        EXPECT_LE(left_out, remainder) << "group " << group << ", epoch " << epoch;
      }
    }
  }
}

TEST_P(PlanConformance, TheRemainderIsDrawnAnewSoNobodyIsLeftOutForEver) {
  std::set<uint64_t> seen;
  for (uint64_t epoch = 0; epoch < 40; ++epoch) {
    for (const auto& [identity, samples] : Epoch(epoch)) seen.insert(identity);
  }
  EXPECT_EQ(seen.size(), plan_->coverage().identities);
}

TEST_P(PlanConformance, AnotherPlanObjectGivesTheSameInAnyOrder) {
  const std::shared_ptr<const Plan> other = Make(world().seed);
  const uint64_t n = 3 * BatchesPerEpoch();
  const KeyedPermutation order(n, 99);
  for (uint64_t i = 0; i < n; ++i) {
    const uint64_t cursor = order(i);
    EXPECT_TRUE(other->At(cursor) == plan_->At(cursor)) << "cursor " << cursor;
  }
}

TEST_P(PlanConformance, ManyThreadsSeeTheSame) {
  const uint64_t n = std::min<uint64_t>(64, 2 * BatchesPerEpoch());
  std::vector<PlannedBatch> expected;
  for (uint64_t cursor = 0; cursor < n; ++cursor) expected.push_back(plan_->At(cursor));
  const std::shared_ptr<const Plan> shared = Make(world().seed);
  std::vector<uint64_t> wrong(4, 0);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      const KeyedPermutation order(n, t);
      for (uint64_t i = 0; i < n; ++i) {
        if (!(shared->At(order(i)) == expected[order(i)])) ++wrong[t];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<uint64_t>(4, 0));
}

TEST_P(PlanConformance, SeedsDiffer) {
  EXPECT_NE(Make(world().seed + 1)->At(0).identities, plan_->At(0).identities);
}

TEST_P(PlanConformance, EpochsDiffer) {
  uint64_t different = 0;
  for (uint64_t epoch = 1; epoch <= 4; ++epoch) {
    if (plan_->At(epoch * BatchesPerEpoch()).identities != plan_->At(0).identities) ++different;
  }
  EXPECT_GE(different, 3u);
}

TEST_P(PlanConformance, NoImageTwiceInABatchIfThereAreEnough) {
  for (const auto& [identity, samples] : Epoch(0)) {
    const uint64_t n = NumKept(identity);
    EXPECT_EQ(std::set<uint64_t>(samples.begin(), samples.end()).size(), std::min(n, K()))
        << "identity " << identity;
  }
}

TEST_P(PlanConformance, FewImagesAreAllTakenAndThenAgainInTheSameOrder) {
  for (const auto& [identity, samples] : Epoch(3)) {
    const uint64_t n = NumKept(identity);
    for (uint64_t j = n; j < K(); ++j) EXPECT_EQ(samples[j], samples[j - n]) << "identity " << identity;
  }
}

TEST_P(PlanConformance, AllImagesAreSeenInTimeByWhoeverSitsNoEpochOut) {
  // Substitutes and guests have no place in the rotation.
  if (!world().one_turn || !guard_list().pairs().empty()) return;
  uint64_t most = 1;
  for (const auto& [group, members] : groups_) {
    for (uint64_t i : members) most = std::max<uint64_t>(most, NumKept(i));
  }
  std::map<uint64_t, std::set<uint64_t>> images;
  std::map<uint64_t, uint64_t> appearances;
  for (uint64_t start :
       {uint64_t{0}, uint64_t{5}, uint64_t{1} << 40}) {  // any stretch of ceil(n / K) epochs will do
    images.clear();
    appearances.clear();
    for (uint64_t e = 0; e < (most + K() - 1) / K(); ++e) {
      for (const auto& [identity, samples] : Epoch(start + e)) {
        const uint64_t n = NumKept(identity);
        if (e >= (n + K() - 1) / K()) continue;
        ++appearances[identity];
        images[identity].insert(samples.begin(), samples.end());
      }
    }
    uint64_t checked = 0;
    for (const auto& [identity, seen] : images) {
      const uint64_t n = NumKept(identity);
      if (appearances[identity] < (n + K() - 1) / K()) continue;
      EXPECT_EQ(seen.size(), n) << "identity " << identity;
      ++checked;
    }
    EXPECT_GT(checked, 0u);
  }
}

TEST_P(PlanConformance, SubspaceIsTheOneOfAllItsIdentities) {
  for (uint64_t cursor = 0; cursor < 2 * BatchesPerEpoch(); ++cursor) {
    const PlannedBatch batch = plan_->At(cursor);
    if (world().one_turn) {
      EXPECT_EQ(batch.subspace >= 0, world().one_subspace);
    }
    if (batch.subspace < 0 || !world().one_subspace) continue;
    for (uint64_t identity : batch.identities) {
      EXPECT_EQ(world().generation->SubspaceOf(identity), static_cast<uint32_t>(batch.subspace));
    }
  }
}

TEST_P(PlanConformance, FarCursorsKeepThePromises) {
  for (uint64_t base : {uint64_t{1} << 32, uint64_t{1} << 62, (uint64_t{1} << 63) - 3}) {
    for (uint64_t cursor = base - 3; cursor < base + 3; ++cursor) {
      const PlannedBatch batch = plan_->At(cursor);
      ExpectWellFormed(batch, cursor);
      EXPECT_TRUE(Make(world().seed)->At(cursor) == batch);
    }
    if (world().plain_epochs) Epoch(base / BatchesPerEpoch() - 1);  // expects that none comes twice
  }
}

}  // namespace doppel
