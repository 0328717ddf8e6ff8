#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "trainer/eval/eval_data.h"

namespace doppel {

// Figures of one query from the places of its right answers (from 0, ascending, at least one).
// Mean over the right answers of the precision at them.
double AveragePrecision(absl::Span<const int64_t> ranks);
// Σ (r_i - r_{i-1}) (p_i + p_{i-1}) / 2 over all places i, p_0 = 1: the area that Market-1501's own
// evaluation sums up.
double AveragePrecisionTrapezoid(absl::Span<const int64_t> ranks);
// Right answers / place (from 1) of the last of them (AGW, arXiv 2001.04193).
double InverseNegativePenalty(absl::Span<const int64_t> ranks);
// With R = the number of right answers: the share of them among the first R, and
// (1/R) Σ_{i ≤ R} (precision at i) · (i is right) (A Metric Learning Reality Check, arXiv 2003.08505).
double RPrecision(absl::Span<const int64_t> ranks);
double AveragePrecisionAtR(absl::Span<const int64_t> ranks);

// Protocol "retrieval": every query against the gallery.
struct RetrievalReport {
  int64_t queries = 0;    // that count
  int64_t unmatched = 0;  // left out: no (other) row of the gallery has their label
  int64_t gallery = 0;
  std::vector<std::pair<int, double>> recall;  // (K, share of queries with a right one among the K nearest)
  double r_precision = 0;
  double map_at_r = 0;
  double mean_average_precision = 0;
};

// queries == nullptr: every row of the gallery is a query against all others. Means are over the queries that
// count, taken in their order. FAILED_PRECONDITION: none counts. Same result for any number of threads.
absl::StatusOr<RetrievalReport> EvaluateRetrieval(const EvalData& gallery, const EvalData* queries,
                                                  absl::Span<const int> recall_at,
                                                  const RankingOptions& options);

// Protocol "market1501": single query, as published with the data set.
struct MarketReport {
  int64_t queries = 0;       // that count
  int64_t unmatched = 0;     // left out: no other camera saw them
  int64_t junk_queries = 0;  // left out: identity -1
  int64_t gallery = 0;       // without junk
  int64_t junk = 0;          // rows of identity -1, dropped
  int64_t distractors = 0;   // of the gallery: identity 0
  std::vector<std::pair<int, double>> cmc;
  double ap_std = 0;
  double ap_market = 0;
  double minp = 0;
};

// labels = identities; both sets need cameras. For each query, gallery rows of its identity *and* camera are
// not there. FAILED_PRECONDITION: no query counts.
absl::StatusOr<MarketReport> EvaluateMarket(const EvalData& gallery, const EvalData& queries,
                                            absl::Span<const int> cmc_at, const RankingOptions& options);

}  // namespace doppel
