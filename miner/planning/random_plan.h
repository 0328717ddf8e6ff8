#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "common/catalog/catalog.h"
#include "doppel/v1/types.pb.h"
#include "miner/planning/plan.h"

namespace doppel {

// P identities uniformly: the control. An epoch is a keyed permutation of the split's identities (or of the
// first `identity_limit` of a fixed permutation of them), cut into batches. Needs no generation and no memory
// that grows with N.
absl::StatusOr<std::shared_ptr<const Plan>> MakeRandomPlan(const v1::PlanSpec& spec, uint64_t seed,
                                                           std::shared_ptr<const Catalog> catalog);

}  // namespace doppel
