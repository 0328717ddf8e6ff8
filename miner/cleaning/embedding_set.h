#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "miner/representation/matrix.h"

namespace doppel {

// Image embeddings, identity by identity. Immutable after MakeEmbeddingSet.
struct EmbeddingSet {
  Matrix rows;                   // [N, D], unit length, sorted by identity; within one in the order given
  std::vector<uint64_t> first;   // [identities + 1]: an identity's rows are [first[i], first[i + 1])
  std::vector<uint64_t> source;  // [N]: which row of the input it was

  uint64_t identities() const { return first.size() - 1; }
  int64_t count(uint64_t identity) const {
    return static_cast<int64_t>(first[identity + 1] - first[identity]);
  }
  const float* row(uint64_t i) const { return rows.row(static_cast<int64_t>(i)); }
};

// Scales the rows to unit length and sorts them by label; identities are 0 … the largest label, and may be
// empty. INVALID_ARGUMENT: no row, lengths that differ, a negative label or one of 2^32 - 1 or more, a row
// that is zero or holds what is no number.
absl::StatusOr<EmbeddingSet> MakeEmbeddingSet(Matrix rows, absl::Span<const int64_t> labels);

// [identities, D]: means of the rows, scaled to unit length; zeros for identities without rows.
Matrix IdentityCentres(const EmbeddingSet& set);

// Of two unit rows. Summed in a fixed order.
float Cosine(const float* a, const float* b, int dimension);

}  // namespace doppel
