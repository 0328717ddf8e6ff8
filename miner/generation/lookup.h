#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/catalog/catalog.h"
#include "doppel/v1/mining.pb.h"
#include "miner/generation/generation.h"

namespace doppel {

// What an operator means by `text`: a name in the catalog; a single letter, if the catalog names it by its
// code (U+672A); a number; # and a number. In this order. INVALID_ARGUMENT: none; NOT_FOUND.
absl::StatusOr<uint64_t> ResolveIdentity(const Catalog& catalog, absl::string_view text);

// The identities most similar to one, most similar first: the stored neighbours as far as they go, otherwise
// compared with all of the generation, O(N D). NOT_FOUND: the generation does not cover it.
absl::StatusOr<v1::FindLookalikesResponse> FindLookalikes(const Generation& generation,
                                                          const Catalog& catalog,
                                                          const v1::FindLookalikesRequest& request);

// One subspace: its statistics, its members nearest to the centroid, and the subspaces nearest to it.
// NOT_FOUND.
absl::StatusOr<v1::GetSubspaceResponse> DescribeSubspace(const Generation& generation, const Catalog& catalog,
                                                         const v1::GetSubspaceRequest& request);

}  // namespace doppel
