#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "trainer/eval/eval_data.h"

namespace doppel {

// Protocol "identification_distractors" (MegaFace): for every probe and every mate of it, a gallery of that
// mate and N distractors; the probe is identified if the mate is strictly closer than every distractor (one
// as close as the mate counts against it).
struct DistractorsReport {
  int64_t probes = 0;  // with a mate
  int64_t unmatched = 0;
  int64_t pairs = 0;  // (probe, mate), ordered
  int64_t available = 0;
  std::vector<std::pair<int64_t, double>> rank1;  // (N, share of pairs identified)
  std::vector<int64_t> refused;                   // N above the distractors there are
};

// With queries: probes are the queries, mates the gallery's rows of their label, distractors the rows whose
// label no query has. queries == nullptr: probes are the rows of labels with two rows or more, mates the
// others of their label, distractors the rows that are alone with theirs. The N distractors are the first N
// in an order drawn by `seed`, the same for all pairs, so a larger N holds the smaller. INVALID_ARGUMENT:
// dimensions differ, N < 1; FAILED_PRECONDITION: no pair or no distractor.
absl::StatusOr<DistractorsReport> EvaluateDistractors(const EvalData& gallery, const EvalData* queries,
                                                      absl::Span<const int64_t> sizes, uint64_t seed,
                                                      const RankingOptions& options);

}  // namespace doppel
