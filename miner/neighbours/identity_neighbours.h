#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "miner/representation/matrix.h"

namespace doppel {

struct NeighbourOptions {
  int neighbours = 64;  // k; fewer if there are not so many other rows
  int threads = 0;      // 0: all cores
  // Called now and then with (rows done, rows); return false to cancel (CANCELLED).
  std::function<bool(int64_t, int64_t)> on_progress;
};

// The most similar rows of every row, itself excluded.
struct IdentityNeighbours {
  int neighbours = 0;               // k
  std::vector<uint32_t> rows;       // [N, k], most similar first; equal similarities by ascending row
  std::vector<float> similarities;  // [N, k], cosine
};

// Exact top-k of unit rows by cosine, in blocks: never an N×N matrix. Deterministic for one set of arguments
// on one machine, independent of `threads`. INVALID_ARGUMENT: k < 1, no row, 2^32 rows or more.
absl::StatusOr<IdentityNeighbours> FindIdentityNeighbours(const Matrix& unit_rows,
                                                          const NeighbourOptions& options);

}  // namespace doppel
