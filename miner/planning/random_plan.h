#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "miner/planning/plan.h"
#include "miner/planning/plan_inputs.h"

namespace doppel {

// P identities uniformly from a split of the catalog, or from the first `identity_limit` of a fixed
// permutation of it. An epoch is a keyed permutation of them, cut into batches; what is left over (fewer than
// P) sits it out. Needs no generation; obeys the guard list of the one it is given.
absl::StatusOr<std::shared_ptr<const Plan>> MakeRandomPlan(PlanInputs inputs);

}  // namespace doppel
