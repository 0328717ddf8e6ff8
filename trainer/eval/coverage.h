#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "trainer/eval/eval_data.h"

namespace doppel {

// The largest share of queries that can be answered at a precision: of those at least as confident as the
// threshold, `precision` are right. Equally confident answers are given all or none.
struct CoveragePoint {
  double target = 0;
  double coverage = 0;  // answered / queries; 0: the target is never met
  int64_t answered = 0;
  double precision = 0;
  double threshold = 0;  // the least confidence that is answered
};

// Protocol "coverage".
struct CoverageReport {
  int64_t queries = 0;
  int64_t unmatched = 0;  // no row of the gallery has their label: whatever is answered is wrong
  double accuracy = 0;    // precision if everything is answered: rank-1 over all queries
  std::vector<CoveragePoint> points;
};

// INVALID_ARGUMENT: lengths differ, nothing is given, a confidence is not a number, a target not in (0, 1].
absl::StatusOr<CoverageReport> Coverage(absl::Span<const double> confidence, const std::vector<bool>& right,
                                        absl::Span<const double> targets);

// The answer to a query is the label of its nearest row, with the score as confidence (by Euclidean distance:
// minus the distance). queries == nullptr: every row of the gallery against all others. All queries count.
absl::StatusOr<CoverageReport> EvaluateCoverage(const EvalData& gallery, const EvalData* queries,
                                                absl::Span<const double> targets,
                                                const RankingOptions& options);

}  // namespace doppel
