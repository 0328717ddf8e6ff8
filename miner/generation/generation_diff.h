#pragma once

#include <cstdint>

#include "common/catalog/catalog.h"
#include "doppel/v1/mining.pb.h"
#include "doppel/v1/types.pb.h"
#include "miner/generation/generation.h"
#include "miner/generation/generation_codec.h"

namespace doppel {

// What moved from one generation to the other, over the identities that both cover: O(N + occupied pairs of
// subspaces). Lists at most `limit` flows and identities, whose names `catalog` knows.
v1::DiffGenerationsResponse DiffGenerations(const Generation& from, const Generation& to,
                                            const Catalog& catalog, uint32_t limit);

// Fills previous, churn and nmi of `info`, and arrived and departed of its subspaces.
void DescribeMoves(const Generation& previous, const GenerationContents& contents, v1::GenerationInfo& info);

}  // namespace doppel
