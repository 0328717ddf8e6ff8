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
  // Called now and then with (rows done, rows); return false to cancel (CANCELLED). On the calling thread.
  std::function<bool(int64_t, int64_t)> on_progress;
  // Compare only with the rows of the nearest cells of an inverted file: N·√N instead of N² work, for a few
  // neighbours missed. Pays from about a million rows on.
  bool approximate = false;
  int probes = 32;    // approximate: cells that are searched
  uint64_t seed = 1;  // approximate: of the k-means that makes the cells
};

// The most similar rows of every row, itself excluded.
struct IdentityNeighbours {
  int neighbours = 0;               // k
  std::vector<uint32_t> rows;       // [N, k], most similar first; equal similarities by ascending row
  std::vector<float> similarities;  // [N, k], cosine
};

// Exact top-k of unit rows by cosine, in blocks: never an N×N matrix. Deterministic for one set of arguments
// on one machine, independent of `threads`. Every unordered pair is multiplied once, in float32; the k + 16
// best of each row are summed anew in double, so that rounding decides neither order nor ties. Memory beyond
// the rows: 8·(2k + 32) bytes per row, and then the result.
// INVALID_ARGUMENT: k < 1, no row, 2^32 rows or more, a value that is not finite.
absl::StatusOr<IdentityNeighbours> FindIdentityNeighbours(const Matrix& unit_rows,
                                                          const NeighbourOptions& options);

}  // namespace doppel
