#pragma once

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "miner/planning/plan.h"
#include "miner/planning/plan_inputs.h"

namespace doppel {

// Every batch from one of several plans, in proportion to their weights, which may change with the cursor.
//
// Weights are kept to 1/128 (a weight above 0 to at least that). From the beginning of a stage on, 128
// cursors follow one pattern: at each one that part is next which lags behind its share the most (ties to the
// first). So shares are exact, parts are spread evenly, and how many batches a part has had before a cursor
// can be counted. The part draws with that number as its cursor: its batches are those that it would give
// alone, one after the other, and its own epochs keep their promise within the mixture.
//
// A decision of `hardness` sets the weights of the parts other than random to its share, in their old
// proportion, and that of the random ones to what is left. Stages and decisions are counted at creation;
// memory is theirs, At costs O(128) more than the part.
absl::StatusOr<std::shared_ptr<const Plan>> MakeMixturePlan(
    const PlanInputs& inputs,
    const std::function<absl::StatusOr<std::shared_ptr<const Plan>>(const v1::PlanSpec&)>& make_part);

}  // namespace doppel
