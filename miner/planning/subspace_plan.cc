#include "miner/planning/subspace_plan.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/base/permutation.h"
#include "common/base/philox.h"
#include "common/base/status_macros.h"
#include "miner/planning/identity_sampler.h"

namespace doppel {
namespace {

constexpr uint64_t kMembersTag = 0x6d656d62657273;  // "members"
constexpr uint64_t kBlocksTag = 0x626c6f636b73;     // "blocks"

class SubspacePlan : public Plan {
 public:
  SubspacePlan(const v1::PlanSpec& spec, uint64_t seed, std::shared_ptr<const Catalog> catalog,
               std::shared_ptr<const Generation> generation)
      : identities_per_batch_(spec.identities_per_batch()),
        run_length_(std::max<uint64_t>(1, spec.run_length())),
        seed_(seed),
        catalog_(std::move(catalog)),
        generation_(std::move(generation)),
        sampler_(seed, spec.samples_per_identity()) {
    const uint32_t subspaces = generation_->num_subspaces();
    first_batch_.reserve(subspaces + 1);
    first_batch_.push_back(0);
    uint32_t too_small = 0;
    for (uint32_t s = 0; s < subspaces; ++s) {
      const uint64_t size = generation_->Members(s).size();
      const uint64_t batches = size / identities_per_batch_;
      first_batch_.push_back(first_batch_.back() + batches);
      (batches > 0 ? coverage_.identities : coverage_.left_out) += size;
      if (batches == 0) ++too_small;
    }
    coverage_.batches_per_epoch = first_batch_.back();
    if (coverage_.left_out > 0) {
      coverage_.left_out_reason =
          absl::StrCat("in ", too_small, " subspaces with fewer than ", identities_per_batch_, " identities");
    }
  }

  PlannedBatch At(uint64_t cursor) const override {
    PlannedBatch batch;
    batch.cursor = cursor;
    batch.epoch = cursor / coverage_.batches_per_epoch;
    const uint64_t flat = FlatBatch(batch.epoch, cursor % coverage_.batches_per_epoch);
    // The last subspace that begins at or before it; those without batches share their successor's beginning.
    const uint64_t subspace =
        std::upper_bound(first_batch_.begin(), first_batch_.end(), flat) - first_batch_.begin() - 1;
    batch.subspace = static_cast<int32_t>(subspace);

    const absl::Span<const uint32_t> members = generation_->Members(static_cast<uint32_t>(subspace));
    const KeyedPermutation order(members.size(), MixKey(MixKey(seed_, kMembersTag, batch.epoch), subspace));
    const uint64_t begin = (flat - first_batch_[subspace]) * identities_per_batch_;
    batch.identities.resize(identities_per_batch_);
    order.Range(begin, identities_per_batch_, batch.identities.data());
    for (uint64_t& identity : batch.identities) identity = members[identity];
    sampler_.AppendAll(*catalog_, batch.epoch, &batch.identities, &batch.samples);
    return batch;
  }

  const PlanCoverage& coverage() const override { return coverage_; }

 private:
  // Which batch of the epoch its `position`-th is.
  uint64_t FlatBatch(uint64_t epoch, uint64_t position) const {
    const uint64_t full_blocks = coverage_.batches_per_epoch / run_length_;
    const uint64_t block = position / run_length_;
    if (block >= full_blocks) return position;
    const KeyedPermutation order(full_blocks, MixKey(seed_, kBlocksTag, epoch));
    return order(block) * run_length_ + position % run_length_;
  }

  const uint64_t identities_per_batch_;
  const uint64_t run_length_;
  const uint64_t seed_;
  const std::shared_ptr<const Catalog> catalog_;
  const std::shared_ptr<const Generation> generation_;
  const IdentitySampler sampler_;
  std::vector<uint64_t> first_batch_;  // [subspaces + 1], prefix sums of batches
  PlanCoverage coverage_;
};

absl::Status CheckMatch(const v1::PlanSpec& spec, const Catalog& catalog, const Generation& generation) {
  if (generation.info().catalog_fingerprint() != catalog.fingerprint()) {
    return absl::InvalidArgumentError(
        absl::StrCat("generation ", generation.number(), " was mined from catalog \"",
                     generation.info().catalog_fingerprint(), "\", this catalog is \"", catalog.fingerprint(),
                     "\": mine a generation for it"));
  }
  ASSIGN_OR_RETURN(const CatalogSplitInfo split, catalog.Split(spec.split()));
  if (split.first_identity != generation.first_identity() ||
      split.identities != generation.num_identities()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "split \"", spec.split(), "\" means identities [", split.first_identity, ", ",
        split.first_identity + split.identities, ") of the catalog, but generation ", generation.number(),
        " covers split \"", generation.info().split(), "\", [", generation.first_identity(), ", ",
        generation.first_identity() + generation.num_identities(), "): ask for that split or mine this one"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Plan>> MakeSubspacePlan(const v1::PlanSpec& spec, uint64_t seed,
                                                             std::shared_ptr<const Catalog> catalog,
                                                             std::shared_ptr<const Generation> generation) {
  if (generation == nullptr) {
    return absl::InvalidArgumentError(
        "plan \"subspace\" draws from a generation and there is none: recluster first");
  }
  if (spec.identity_limit() != 0) {
    return absl::InvalidArgumentError(absl::StrCat("identity_limit ", spec.identity_limit(),
                                                   ": only plan \"random\" has it; leave it out"));
  }
  RETURN_IF_ERROR(CheckMatch(spec, *catalog, *generation));
  const Generation& source = *generation;
  auto plan = std::make_shared<const SubspacePlan>(spec, seed, std::move(catalog), std::move(generation));
  if (plan->coverage().batches_per_epoch == 0) {
    uint64_t largest = 0;
    for (uint32_t s = 0; s < source.num_subspaces(); ++s) {
      largest = std::max<uint64_t>(largest, source.Members(s).size());
    }
    return absl::InvalidArgumentError(
        absl::StrCat("identities_per_batch ", spec.identities_per_batch(), ": the largest of the ",
                     source.num_subspaces(), " subspaces of generation ", source.number(), " has ", largest,
                     " identities; ask for fewer, or mine fewer subspaces"));
  }
  return plan;
}

}  // namespace doppel
