#pragma once

#include <cstdint>

#include "absl/types/span.h"
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

// I(A; B) / ((H(A) + H(B)) / 2) of two partitions of the same things, [N] each; 1 if neither says anything.
// (Strehl and Ghosh 2002, over the arithmetic mean as scikit-learn has it.)
double NormalisedMutualInformation(absl::Span<const uint32_t> a, absl::Span<const uint32_t> b);

}  // namespace doppel
