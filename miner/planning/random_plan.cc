#include "miner/planning/random_plan.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/base/permutation.h"
#include "common/base/philox.h"
#include "common/base/status_macros.h"
#include "miner/planning/identity_sampler.h"

namespace doppel {
namespace {

constexpr uint64_t kOrderTag = 0x72616e646f6d;  // "random"
// Of the permutation whose beginning `identity_limit` takes: the same for every seed, for ever.
constexpr uint64_t kLimitKey = 0x6c696d6974;  // "limit"

class RandomPlan : public Plan {
 public:
  RandomPlan(const v1::PlanSpec& spec, uint64_t seed, std::shared_ptr<const Catalog> catalog,
             const CatalogSplitInfo& split, uint64_t covered)
      : identities_per_batch_(spec.identities_per_batch()),
        seed_(seed),
        catalog_(std::move(catalog)),
        first_identity_(split.first_identity),
        covered_(covered),
        limited_(covered < split.identities),
        limit_(split.identities, kLimitKey),
        sampler_(seed, spec.samples_per_identity()) {
    coverage_.identities = covered;
    coverage_.batches_per_epoch = covered / identities_per_batch_;
    if (limited_) {
      coverage_.left_out = split.identities - covered;
      coverage_.left_out_reason = absl::StrCat("identity_limit ", covered);
    }
  }

  PlannedBatch At(uint64_t cursor) const override {
    PlannedBatch batch;
    batch.cursor = cursor;
    batch.epoch = cursor / coverage_.batches_per_epoch;
    const uint64_t begin = cursor % coverage_.batches_per_epoch * identities_per_batch_;
    const KeyedPermutation order(covered_, MixKey(seed_, kOrderTag, batch.epoch));
    batch.identities.resize(identities_per_batch_);
    order.Range(begin, identities_per_batch_, batch.identities.data());
    if (limited_) limit_.Gather(batch.identities.data(), identities_per_batch_, batch.identities.data());
    for (uint64_t& identity : batch.identities) identity += first_identity_;
    sampler_.AppendAll(*catalog_, batch.epoch, &batch.identities, &batch.samples);
    return batch;
  }

  const PlanCoverage& coverage() const override { return coverage_; }

 private:
  const uint64_t identities_per_batch_;
  const uint64_t seed_;
  const std::shared_ptr<const Catalog> catalog_;
  const uint64_t first_identity_;
  const uint64_t covered_;
  const bool limited_;
  const KeyedPermutation limit_;
  const IdentitySampler sampler_;
  PlanCoverage coverage_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const Plan>> MakeRandomPlan(const v1::PlanSpec& spec, uint64_t seed,
                                                           std::shared_ptr<const Catalog> catalog) {
  if (spec.run_length() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("run_length ", spec.run_length(), ": plan \"random\" has no runs; leave it out"));
  }
  ASSIGN_OR_RETURN(const CatalogSplitInfo split, catalog->Split(spec.split()));
  const uint64_t covered = spec.identity_limit() == 0
                               ? split.identities
                               : std::min<uint64_t>(spec.identity_limit(), split.identities);
  if (covered < spec.identities_per_batch()) {
    return absl::InvalidArgumentError(
        absl::StrCat("identities_per_batch ", spec.identities_per_batch(), ": split \"", split.name,
                     "\" with identity_limit ", spec.identity_limit(), " has only ", covered, " identities"));
  }
  return std::make_shared<RandomPlan>(spec, seed, std::move(catalog), split, covered);
}

}  // namespace doppel
