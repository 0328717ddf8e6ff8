#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "common/catalog/catalog.h"
#include "miner/generation/generation.h"
#include "miner/planning/plan.h"

namespace doppel {

// What every plan promises (see plan.h), checked on small worlds. To run a plan through it, add
// plan_conformance.cc (the tests themselves) to the test binary and say
//   INSTANTIATE_TEST_SUITE_P(MyPlan, PlanConformance, testing::ValuesIn(MyWorlds()), PlanWorldName);
// A world must leave room for choice (more than one possible epoch), or different seeds could not differ.
struct PlanWorld {
  std::string name;
  std::shared_ptr<const Catalog> catalog;
  std::shared_ptr<const Generation> generation;  // null if the plan needs none
  v1::PlanSpec spec;
  uint64_t seed = 0;
  bool one_subspace = false;  // every batch comes from one subspace
  // The group within which the remainder rule holds: an epoch leaves out fewer identities of each group than
  // have their turn in a batch. Negative: the plan does not cover this identity.
  std::function<int64_t(uint64_t identity)> group = {};
  // Whether an identity at this position of a batch came by its turn. Unset: all did.
  std::function<bool(uint64_t position)> by_turn = {};
  // Every covered identity has one turn in an epoch, except for the remainder of its group. Plans that
  // promise something else keep it to their own tests.
  bool one_turn = true;
  // A batch's epoch is its cursor over the batches of an epoch.
  bool plain_epochs = true;
};

inline std::ostream& operator<<(std::ostream& out, const PlanWorld& world) { return out << world.name; }
inline std::string PlanWorldName(const testing::TestParamInfo<PlanWorld>& info) { return info.param.name; }

inline bool operator==(const PlannedBatch& a, const PlannedBatch& b) {
  return a.cursor == b.cursor && a.epoch == b.epoch && a.subspace == b.subspace &&
         a.identities == b.identities && a.samples == b.samples;
}

class PlanConformance : public testing::TestWithParam<PlanWorld> {
 protected:
  void SetUp() override {
    plan_ = Make(world().seed);
    ASSERT_NE(plan_, nullptr);
    for (uint64_t i = 0; i < world().catalog->num_identities(); ++i) {
      const int64_t group = world().group(i);
      if (group >= 0) groups_[group].push_back(i);
    }
  }

  const PlanWorld& world() const { return GetParam(); }
  uint64_t P() const { return world().spec.identities_per_batch(); }
  uint64_t K() const { return world().spec.samples_per_identity(); }
  uint64_t BatchesPerEpoch() const { return plan_->coverage().batches_per_epoch; }

  std::shared_ptr<const Plan> Make(uint64_t seed) const {
    auto plan = MakePlan(world().spec, seed, world().catalog, world().generation);
    EXPECT_TRUE(plan.ok()) << plan.status();
    return plan.ok() ? *plan : nullptr;
  }

  const GuardList& guard_list() const {
    static const GuardList* const empty = new GuardList();
    return world().generation == nullptr ? *empty : world().generation->guard_list();
  }
  bool ByTurn(uint64_t position) const { return world().by_turn == nullptr || world().by_turn(position); }
  uint64_t TurnsPerBatch() const {
    uint64_t turns = 0;
    for (uint64_t i = 0; i < P(); ++i) turns += ByTurn(i) ? 1 : 0;
    return turns;
  }
  // Samples that may be drawn.
  uint64_t NumKept(uint64_t identity) const {
    const IdentitySamples samples = world().catalog->Samples(identity);
    uint64_t kept = 0;
    for (uint64_t s = samples.first; s < samples.first + samples.count; ++s) {
      kept += guard_list().Dropped(s) ? 0 : 1;
    }
    return kept;
  }

  // identity → its K samples, of those who have their turn in an epoch.
  std::map<uint64_t, std::vector<uint64_t>> Epoch(uint64_t epoch) const {
    std::map<uint64_t, std::vector<uint64_t>> seen;
    for (uint64_t b = 0; b < BatchesPerEpoch(); ++b) {
      const PlannedBatch batch = plan_->At(epoch * BatchesPerEpoch() + b);
      for (size_t i = 0; i < batch.identities.size(); ++i) {
        if (!ByTurn(i)) continue;
        std::vector<uint64_t> samples(batch.samples.begin() + i * K(), batch.samples.begin() + (i + 1) * K());
        const bool first = seen.emplace(batch.identities[i], samples).second;
        if (world().one_turn && guard_list().pairs().empty()) {
          EXPECT_TRUE(first) << "identity " << batch.identities[i] << " twice in epoch " << epoch;
        }
      }
    }
    return seen;
  }

  void ExpectWellFormed(const PlannedBatch& batch, uint64_t cursor) const {
    EXPECT_EQ(batch.cursor, cursor);
    if (world().plain_epochs) {
      EXPECT_EQ(batch.epoch, cursor / BatchesPerEpoch());
    }
    EXPECT_FALSE(batch.drawn_by.empty());
    ASSERT_EQ(batch.identities.size(), P());
    ASSERT_EQ(batch.samples.size(), P() * K());
    EXPECT_EQ(std::set<uint64_t>(batch.identities.begin(), batch.identities.end()).size(), P());
    for (size_t i = 0; i < P(); ++i) {
      const uint64_t identity = batch.identities[i];
      ASSERT_LT(identity, world().catalog->num_identities());
      EXPECT_GE(world().group(identity), 0) << "identity " << identity << " is not covered";
      const IdentitySamples samples = world().catalog->Samples(identity);
      for (size_t j = i * K(); j < (i + 1) * K(); ++j) {
        EXPECT_GE(batch.samples[j], samples.first);
        EXPECT_LT(batch.samples[j], samples.first + samples.count);
        EXPECT_FALSE(guard_list().Dropped(batch.samples[j])) << "sample " << batch.samples[j];
      }
      for (size_t other = 0; other < i; ++other) {
        EXPECT_FALSE(guard_list().Guarded(identity, batch.identities[other]))
            << identity << " with " << batch.identities[other];
      }
    }
  }

  std::shared_ptr<const Plan> plan_;
  std::map<int64_t, std::vector<uint64_t>> groups_;
};

}  // namespace doppel
