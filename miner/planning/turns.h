#pragma once

#include <cstdint>
#include <vector>

#include "miner/planning/batch_draw.h"
#include "miner/planning/plan_inputs.h"

namespace doppel {

// Takes batch->identities, all different, for those whose turn it is, epochs[i] being the place in its
// rotation that the images of the i-th start from, and fills in the images. Whom the guard list keeps apart
// from one before gives its place, at the end, to one of pool(0) … pool(size - 1). `key` decides who.
template <typename Pool>
void TakeTurns(const PlanInputs& inputs, const IdentitySampler& sampler, std::vector<uint64_t> epochs,
               uint64_t size, const Pool& pool, uint64_t key, PlannedBatch* batch) {
  std::vector<uint64_t>& identities = batch->identities;
  if (!inputs.guard_list().pairs().empty()) {
    const uint64_t wanted = identities.size();
    BatchDraw draw(inputs.guard_list(), wanted);
    size_t fitting = 0;
    for (size_t i = 0; i < wanted; ++i) {
      if (!draw.Add(identities[i])) continue;
      epochs[fitting] = epochs[i];
      identities[fitting++] = identities[i];
    }
    identities.resize(fitting);
    epochs.resize(fitting);
    DrawStream random(key);
    uint64_t identity = 0;
    while (identities.size() < wanted && draw.AddFrom(size, pool, &random, &identity)) {
      identities.push_back(identity);
      epochs.push_back(random.Next());
    }
  }
  sampler.AppendAll(*inputs.catalog, epochs, &identities, &batch->samples);
}

}  // namespace doppel
