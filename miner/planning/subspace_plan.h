#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "common/catalog/catalog.h"
#include "doppel/v1/types.pb.h"
#include "miner/generation/generation.h"
#include "miner/planning/plan.h"

namespace doppel {

// All P identities of a batch from one subspace, subspaces visited in proportion to their size.
//
// The batches of an epoch have flat numbers: floor(n_s / P) of them for subspace s, subspace after subspace.
// An epoch visits blocks of `run_length` consecutive flat numbers in a keyed order (a shorter last block
// stays last), so up to run_length batches in a row come from one subspace; a run is cut where its block
// crosses into the next subspace. Within a subspace a keyed permutation of its members, drawn anew every
// epoch, is cut into batches. Subspaces smaller than P are left out. Memory is O(M), At is O(P*K + log M).
absl::StatusOr<std::shared_ptr<const Plan>> MakeSubspacePlan(const v1::PlanSpec& spec, uint64_t seed,
                                                             std::shared_ptr<const Catalog> catalog,
                                                             std::shared_ptr<const Generation> generation);

}  // namespace doppel
