#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/catalog/catalog.h"
#include "miner/generation/generation.h"

namespace doppel::report {

// An identity and those most similar to it within its subspace, by the cosine of their representations.
struct LookalikeRow {
  uint64_t identity = 0;
  std::vector<std::pair<float, uint64_t>> nearest;  // descending
};

// `rows` identities, no identity as the first of a row or in one twice: the most alike first, then the rest
// spread evenly down to the ordinary. Looks at about 2 000 evenly drawn identities, so that a large
// generation does not take long.
std::vector<LookalikeRow> FindLookalikes(const Generation& generation, int rows, int per_row);

// The rows as pictures: the first sample of each identity, as data: URIs.
absl::StatusOr<std::string> LookalikeSection(const Catalog& catalog, const Generation& generation, int rows);

}  // namespace doppel::report
