#include "miner/planning/random_plan.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/base/permutation.h"
#include "common/base/philox.h"
#include "common/base/status_macros.h"
#include "miner/planning/turns.h"

namespace doppel {
namespace {

constexpr uint64_t kOrderTag = 0x72616e646f6d;               // "random"
constexpr uint64_t kRandomSubstituteTag = 0x72207375627374;  // "r subst"
// Of the permutation whose beginning `identity_limit` takes: the same for every seed, for ever.
constexpr uint64_t kLimitKey = 0x6c696d6974;  // "limit"

class RandomPlan : public Plan {
 public:
  RandomPlan(PlanInputs inputs, const CatalogSplitInfo& split, uint64_t covered)
      : inputs_(std::move(inputs)),
        rows_(split.rows()),
        limited_(covered < split.identities),
        limit_(split.identities, kLimitKey),
        sampler_(inputs_.Sampler()) {
    std::vector<uint64_t> left_out;
    const std::vector<uint64_t> dropped = DroppedIdentities(inputs_);
    for (uint64_t identity : dropped) {
      if (!rows_.Contains(identity)) continue;
      const uint64_t offset = rows_.Row(identity);
      const uint64_t position = limited_ ? limit_.Inverse(offset) : offset;
      if (position < covered) left_out.push_back(position);
    }
    std::sort(left_out.begin(), left_out.end());
    positions_ = KeptPositions(covered, left_out);
    sure_ = Sure(covered, dropped);
    coverage_.identities = positions_.size();
    coverage_.batches_per_epoch = positions_.size() / inputs_.P();
    coverage_.left_out = split.identities - positions_.size();
    if (limited_) coverage_.left_out_reason = absl::StrCat("identity_limit ", covered);
    if (!left_out.empty()) {
      absl::StrAppend(&coverage_.left_out_reason, limited_ ? "; " : "", left_out.size(),
                      " have no sample that the guard list does not drop");
    }
  }

  PlannedBatch At(uint64_t cursor) const override {
    PlannedBatch batch;
    batch.drawn_by = "random";
    batch.cursor = cursor;
    batch.epoch = cursor / coverage_.batches_per_epoch;
    const uint64_t begin = cursor % coverage_.batches_per_epoch * inputs_.P();
    const KeyedPermutation order(positions_.size(), MixKey(inputs_.seed, kOrderTag, batch.epoch));
    batch.identities.resize(inputs_.P());
    order.Range(begin, inputs_.P(), batch.identities.data());
    for (uint64_t& turn : batch.identities) turn = positions_(turn);
    if (limited_) limit_.Gather(batch.identities.data(), inputs_.P(), batch.identities.data());
    for (uint64_t& turn : batch.identities) turn = rows_.Identity(turn);
    TakeTurns(
        inputs_, sampler_, std::vector<uint64_t>(inputs_.P(), batch.epoch), positions_.size(),
        [this](uint64_t u) { return Identity(u); }, MixKey(inputs_.seed, kRandomSubstituteTag, cursor),
        &batch);
    return batch;
  }

  const PlanCoverage& coverage() const override { return coverage_; }

  // How many a batch can be sure to have: see SureToFit.
  uint64_t sure() const { return sure_; }

 private:
  uint64_t Identity(uint64_t u) const {
    const uint64_t position = positions_(u);
    return rows_.Identity(limited_ ? limit_(position) : position);
  }

  uint64_t Sure(uint64_t covered, const std::vector<uint64_t>& dropped) const {
    const auto covers = [&](uint64_t identity) {
      if (!rows_.Contains(identity)) return false;
      if (std::binary_search(dropped.begin(), dropped.end(), identity)) return false;
      return !limited_ || limit_.Inverse(rows_.Row(identity)) < covered;
    };
    std::vector<GuardList::Pair> pairs;
    for (const GuardList::Pair& pair : inputs_.guard_list().pairs()) {
      if (covers(pair.first) && covers(pair.second)) pairs.push_back(pair);
    }
    return SureToFit(positions_.size(), pairs);
  }

  const PlanInputs inputs_;
  const IdentityRows rows_;
  const bool limited_;
  const KeyedPermutation limit_;
  const IdentitySampler sampler_;
  KeptPositions positions_;
  uint64_t sure_ = 0;
  PlanCoverage coverage_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const Plan>> MakeRandomPlan(PlanInputs inputs) {
  const v1::PlanSpec& spec = inputs.spec;
  ASSIGN_OR_RETURN(const CatalogSplitInfo split, inputs.catalog->Split(spec.split()));
  if (inputs.generation != nullptr && inputs.generation->guard_list().empty()) inputs.generation = nullptr;
  if (inputs.generation != nullptr &&
      inputs.generation->info().catalog_fingerprint() != inputs.catalog->fingerprint()) {
    return absl::InvalidArgumentError(
        absl::StrCat("generation ", inputs.generation->number(),
                     " was mined from another catalog: its guard list does not fit this one"));
  }
  const uint64_t covered = spec.identity_limit() == 0
                               ? split.identities
                               : std::min<uint64_t>(spec.identity_limit(), split.identities);
  const std::string what = absl::StrCat("identities_per_batch ", spec.identities_per_batch(), ": split \"",
                                        split.name, "\" with identity_limit ", spec.identity_limit());
  const uint64_t wanted = inputs.P();
  if (covered < wanted) {
    return absl::InvalidArgumentError(absl::StrCat(what, " has only ", covered, " identities"));
  }
  auto plan = std::make_shared<const RandomPlan>(std::move(inputs), split, covered);
  if (plan->sure() < wanted) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " has only ", plan->sure(), " that the guard list lets meet; ask for fewer"));
  }
  return plan;
}

}  // namespace doppel
