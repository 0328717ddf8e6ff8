#pragma once

#include <cstdint>

#include "miner/planning/batch_draw.h"
#include "miner/planning/plan_inputs.h"

namespace doppel {

// An identity that has its turn, and the place in its rotation that its images start from.
struct TurnOf {
  uint64_t identity;
  uint64_t rotation;
};

// Fills a batch with the P identities whose turn it is, turn(0) to turn(P - 1), all different. Whom the guard
// list keeps apart from one before gives its place, at the end, to one of pool(0) … pool(size - 1). `key`
// decides who.
template <typename Turn, typename Pool>
void TakeTurns(const PlanInputs& inputs, const IdentitySampler& sampler, const Turn& turn, uint64_t size,
               const Pool& pool, uint64_t key, PlannedBatch* batch) {
  const uint64_t wanted = inputs.P();
  batch->identities.reserve(wanted);
  batch->samples.reserve(wanted * inputs.K());
  if (inputs.guard_list().pairs().empty()) {
    for (uint64_t i = 0; i < wanted; ++i) {
      const TurnOf next = turn(i);
      AppendIdentity(inputs, sampler, next.identity, next.rotation, batch);
    }
    return;
  }
  BatchDraw draw(inputs.guard_list(), wanted);
  uint64_t missing = 0;
  for (uint64_t i = 0; i < wanted; ++i) {
    const TurnOf next = turn(i);
    if (draw.Add(next.identity)) {
      AppendIdentity(inputs, sampler, next.identity, next.rotation, batch);
    } else {
      ++missing;
    }
  }
  DrawStream random(key);
  uint64_t identity = 0;
  while (missing-- > 0 && draw.AddFrom(size, pool, &random, &identity)) {
    AppendIdentity(inputs, sampler, identity, random.Next(), batch);
  }
}

}  // namespace doppel
