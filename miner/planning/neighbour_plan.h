#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "miner/planning/plan.h"
#include "miner/planning/plan_inputs.h"

namespace doppel {

// nearest_identities, doppelganger, offline_triplets and look_alikes: a batch is G groups of an identity (the
// leader) and g - 1 of its neighbours, and P - G·g more at random.
//
//   nearest_identities  G = 1, g = P: the P - 1 nearest
//   doppelganger        G = P / 2, g = 2: the nearest
//   offline_triplets    G = P / 2, g = 2: one of a band, so that it is hard but not the hardest
//   look_alikes         as the spec says: by default half of P in groups of 4, of the 12 nearest
//
// Leaders and the random ones come by their turn (see plan.h): T = P - G·(g - 1) of a batch, an epoch is
// floor(N / T) batches. Neighbours come with their leader, drawn without repetition from the first `pool`
// within the band [skip, similarity_max, similarity_min] of its list, or all of them in order if there are
// just so many to take. Who is in the batch already or guarded against somebody in it is passed over; if
// the pool does not suffice, the following ones of the list take the places, and then identities drawn at
// random. In the batch a leader stands before its neighbours, the groups stand before the random ones.
//
// A decision of `hardness` sets G from its cursor on to the share of P that it names, rounded to whole
// groups. It does not begin a new epoch: turns go on where they were. Memory: that of the decisions.
absl::StatusOr<std::shared_ptr<const Plan>> MakeNeighbourPlan(PlanInputs inputs);

}  // namespace doppel
