#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "common/catalog/catalog.h"
#include "doppel/v1/types.pb.h"
#include "miner/generation/generation.h"
#include "miner/planning/batch_draw.h"
#include "miner/planning/identity_sampler.h"
#include "miner/planning/plan.h"

namespace doppel {

// The arguments of the function that a plan is, as every plan keeps them.
struct PlanInputs {
  v1::PlanSpec spec;
  uint64_t seed = 0;
  std::shared_ptr<const Catalog> catalog;
  std::shared_ptr<const Generation> generation;  // may be null

  uint64_t P() const { return spec.identities_per_batch(); }
  uint64_t K() const { return spec.samples_per_identity(); }
  // The generation's; empty without one.
  const GuardList& guard_list() const;
  // Refers to the catalog and the generation.
  IdentitySampler Sampler() const;
};

// INVALID_ARGUMENT: there is no generation, it was mined from another catalog, or it covers another split.
absl::Status CheckGeneration(const PlanInputs& inputs);
// The same about neighbours: INVALID_ARGUMENT if the generation has none.
absl::Status CheckNeighbours(const PlanInputs& inputs);
// INVALID_ARGUMENT names a field that is set and that this plan does not have.
absl::Status CheckFields(const v1::PlanSpec& spec);

// Identities whose samples the guard list drops one and all, ascending.
std::vector<uint64_t> DroppedIdentities(const PlanInputs& inputs);

}  // namespace doppel
