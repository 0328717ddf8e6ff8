#pragma once

#include <cstdint>

#include "miner/planning/batch_draw.h"
#include "miner/planning/plan_inputs.h"

namespace doppel {

// Fills a batch with the P identities whose turn it is, turn(0) to turn(P - 1), all different, the images of
// the i-th from rotation(i) on. Whom the guard list keeps apart from one before gives its place, at the end,
// to one of pool(0) … pool(size - 1). `key` decides who.
template <typename Turn, typename Rotation, typename Pool>
void TakeTurns(const PlanInputs& inputs, const IdentitySampler& sampler, const Turn& turn,
               const Rotation& rotation, uint64_t size, const Pool& pool, uint64_t key, PlannedBatch* batch) {
  const uint64_t wanted = inputs.P();
  batch->identities.reserve(wanted);
  batch->samples.reserve(wanted * inputs.K());
  if (inputs.guard_list().pairs().empty()) {
    for (uint64_t i = 0; i < wanted; ++i) AppendIdentity(inputs, sampler, turn(i), rotation(i), batch);
    return;
  }
  BatchDraw draw(inputs.guard_list(), wanted);
  uint64_t missing = 0;
  for (uint64_t i = 0; i < wanted; ++i) {
    const uint64_t identity = turn(i);
    if (draw.Add(identity)) {
      AppendIdentity(inputs, sampler, identity, rotation(i), batch);
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
