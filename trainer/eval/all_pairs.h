#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "trainer/eval/eval_data.h"
#include "trainer/eval/verification.h"

namespace doppel {

// Protocol "verification" over all pairs: of the same label genuine, of others impostors.
struct AllPairsReport {
  uint64_t genuine = 0;
  uint64_t impostors = 0;
  TarAtFarResult tar;
};

// TAR@FAR over all query × gallery pairs; queries == nullptr: over all unordered pairs of rows of the
// gallery. Scores are inner products, or minus the squared distances, rounded to float. Two passes over the
// scores, which are counted by the bits of their float, so that memory (some MB per thread) depends neither
// on the number of pairs nor on the targets. Same result for any number of threads. INVALID_ARGUMENT:
// dimensions differ.
absl::StatusOr<AllPairsReport> VerifyAllPairs(const EvalData& gallery, const EvalData* queries,
                                              absl::Span<const double> far_targets,
                                              const RankingOptions& options);

}  // namespace doppel
