#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "miner/planning/plan.h"
#include "miner/planning/plan_inputs.h"

namespace doppel {

// subspace, subspace_overlap and category: all P identities of a batch from one cell (see identity_cells.h),
// cells visited in proportion to their size.
//
// The visits of an epoch have flat numbers: v_s = floor(n_s / P) of them for cell s, cell after cell. An
// epoch makes blocks of `run_length` consecutive visits in a keyed order (a shorter last block stays last),
// so up to run_length batches in a row come from one cell; a run is cut where its block crosses into the next
// cell. Within a cell a keyed permutation of its members is cut into floor(n_s / P) batches; after these it
// is drawn anew. With `subspace_weight` v_s is the weight's share of all visits instead, at least 1 if it is
// above 0: then each cell has an epoch of its own, as long as floor(n_s / P) visits.
//
// `subspace_stage` changes the weights: one decided for a cursor holds from the first round on that begins
// there or later (of two that begin with the same round, the later one). From a stage on an epoch of visits
// is a round of max(256, 4 · M) of them, or fewer if there are not so many. The cells' own epochs go on.
//
// Cells that cannot fill a batch (fewer than P, or fewer that the guard list lets meet) are left out. Memory
// is that of the cells, At is O(P*K + log M).
absl::StatusOr<std::shared_ptr<const Plan>> MakeSubspacePlan(PlanInputs inputs);

}  // namespace doppel
