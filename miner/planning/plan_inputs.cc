#include "miner/planning/plan_inputs.h"

#include <algorithm>
#include <initializer_list>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

struct SpecField {
  const char* name;
  bool set;
  std::initializer_list<const char*> plans;
};

}  // namespace

const GuardList& PlanInputs::guard_list() const {
  static const GuardList* const nobody = new GuardList();
  return generation == nullptr ? *nobody : generation->guard_list();
}

IdentitySampler PlanInputs::Sampler() const {
  IdentitySampler sampler(seed, spec.samples_per_identity(), &guard_list());
  if (spec.images() == v1::IMAGE_CHOICE_OTHER_CAMERA) sampler.SpreadOverCameras(catalog.get());
  return sampler;
}

absl::Status CheckGeneration(const PlanInputs& inputs) {
  const v1::PlanSpec& spec = inputs.spec;
  if (inputs.generation == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        "plan \"", spec.name(), "\" draws from a generation and there is none: recluster first"));
  }
  const Generation& generation = *inputs.generation;
  if (generation.info().catalog_fingerprint() != inputs.catalog->fingerprint()) {
    return absl::InvalidArgumentError(
        absl::StrCat("generation ", generation.number(), " was mined from catalog \"",
                     generation.info().catalog_fingerprint(), "\", this catalog is \"",
                     inputs.catalog->fingerprint(), "\": mine a generation for it"));
  }
  ASSIGN_OR_RETURN(const CatalogSplitInfo split, inputs.catalog->Split(spec.split()));
  if (split.rows() != generation.rows()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "split \"", spec.split(), "\" means identities [", split.first_identity, ", ",
        split.first_identity + split.identities, ") of the catalog, but generation ", generation.number(),
        " covers split \"", generation.info().split(), "\", [", generation.first_identity(), ", ",
        generation.first_identity() + generation.num_identities(), "): ask for that split or mine this one"));
  }
  return absl::OkStatus();
}

absl::Status CheckNeighbours(const PlanInputs& inputs) {
  RETURN_IF_ERROR(CheckGeneration(inputs));
  if (inputs.generation->num_neighbours() > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("plan \"", inputs.spec.name(), "\" draws neighbours and generation ",
                   inputs.generation->number(), " has none: recluster with neighbours"));
}

absl::Status CheckFields(const v1::PlanSpec& spec) {
  if (spec.has_steering()) {
    return absl::InvalidArgumentError(
        "steering is set: only a stream of a miner that keeps state is steered");
  }
  const SpecField fields[] = {
      {"run_length", spec.run_length() > 1, {"subspace", "subspace_overlap", "category"}},
      {"identity_limit", spec.identity_limit() != 0, {"random"}},
      {"groups", spec.groups() != 0, {"look_alikes"}},
      {"group_size", spec.group_size() != 0, {"look_alikes"}},
      {"pool", spec.pool() != 0, {"look_alikes", "offline_triplets"}},
      {"skip", spec.has_skip(), {"look_alikes", "offline_triplets"}},
      {"similarity_max", spec.similarity_max() != 0, {"look_alikes", "offline_triplets"}},
      {"similarity_min", spec.similarity_min() != 0, {"look_alikes", "offline_triplets"}},
      {"overlap", spec.overlap() != 0, {"subspace_overlap"}},
      {"subspace_weight", !spec.subspace_weight().empty(), {"subspace", "subspace_overlap"}},
      {"category_separator", !spec.category_separator().empty(), {"category"}},
      {"part", !spec.part().empty(), {"mixture"}},
      {"stage", !spec.stage().empty(), {"mixture"}},
      {"hardness", !spec.hardness().empty(), {"auto", "look_alikes", "mixture"}},
      {"subspace_stage", !spec.subspace_stage().empty(), {"subspace", "subspace_overlap"}},
  };
  for (const SpecField& field : fields) {
    const bool known = std::find(field.plans.begin(), field.plans.end(), spec.name()) != field.plans.end();
    if (field.set && !known) {
      return absl::InvalidArgumentError(
          absl::StrCat(field.name, " is set: plan \"", spec.name(), "\" does not have it; leave it out"));
    }
  }
  return absl::OkStatus();
}

std::vector<uint64_t> DroppedIdentities(const PlanInputs& inputs) {
  std::vector<uint64_t> owners;  // of each dropped sample
  owners.reserve(inputs.guard_list().samples().size());
  for (const uint64_t sample : inputs.guard_list().samples()) {
    if (sample >= inputs.catalog->num_samples()) break;
    owners.push_back(inputs.catalog->Sample(sample).identity);
  }
  // Where later versions of the catalog added to an identity, its samples are not neighbours.
  std::sort(owners.begin(), owners.end());
  std::vector<uint64_t> identities;
  for (size_t begin = 0; begin < owners.size();) {
    size_t end = begin;
    while (end < owners.size() && owners[end] == owners[begin]) ++end;
    if (end - begin == inputs.catalog->Samples(owners[begin]).count) identities.push_back(owners[begin]);
    begin = end;
  }
  return identities;
}

}  // namespace doppel
