#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "miner/cleaning/embedding_set.h"
#include "miner/neighbours/identity_neighbours.h"

namespace doppel {

struct DuplicateOptions {
  int neighbours = 10;  // candidates: an identity and each of so many nearest centres
  int threads = 0;      // 0: all cores
  uint64_t seed = 1;    // of the identities that are split in two to learn from
  std::function<bool(int64_t, int64_t)> on_progress;  // as of NeighbourOptions
};

// A pair of identities that may be one and the same.
struct DuplicateFinding {
  uint32_t first = 0;  // < second
  uint32_t second = 0;
  double score = 0;             // orders the findings
  double probability = 0;       // calibrated
  float centre_similarity = 0;  // cosine of the centres
  float cross_similarity = 0;   // mean over images of the best cosine with an image of the other identity
  float within_similarity = 0;  // the same with another image of its own identity; 0: not looked at
  float copied = 0;             // share of the smaller identity's images that the other one has as well
};

struct DuplicateReport {
  std::vector<DuplicateFinding> findings;  // all candidates, best first
  double share = 0;                        // of duplicates among the candidates without copies, an estimate
  bool calibrated = true;                  // false: too few identities to learn from, probabilities are 0
};

// From image embeddings. Evidence of a candidate pair: cosine of the centres; how near images are across
// against within either one; distance of the two clouds relative to their spread (the unbiased squared mean
// discrepancy of Gretton et al. 2012). What duplicates look like is learnt from identities split in
// two; nothing else is known. An image that both have (cosine ≥ 0.9999) is evidence of its own: how often
// that happens by chance is counted among the farther half of the neighbours, and images that more than eight
// pairs share (placeholders) do not count. O(candidates · images²) and the neighbours. Deterministic,
// independent of threads. Identities without images are left out.
absl::StatusOr<DuplicateReport> FindDuplicateIdentities(const EmbeddingSet& set,
                                                        const DuplicateOptions& options);

// From one vector per identity alone: how far an identity's cosine with its nearest neighbour lies beyond
// what the tail of all of them predicts. Rows are those of the neighbours' matrix, plus first_identity.
DuplicateReport FindDuplicatesByCentres(const IdentityNeighbours& neighbours, uint64_t first_identity);

}  // namespace doppel
