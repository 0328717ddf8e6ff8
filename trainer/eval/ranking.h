#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/types/span.h"
#include "trainer/eval/eval_data.h"

namespace doppel {

// Which rows of the gallery are right answers to a query, and which ones are not there for it (itself, junk):
// two lists without common rows, in any order; both come empty. Called from several threads.
using SortOut =
    std::function<void(int64_t query, std::vector<int64_t>* relevant, std::vector<int64_t>* absent)>;

// Places of the right answers in the full ranking of the gallery, counted from 0, ascending, absent rows left
// out. Called from several threads, once for every query, in any order. Empty if there is no right answer.
using VisitRanks = std::function<void(int64_t query, absl::Span<const int64_t> ranks)>;

// Full rankings without the matrix, and without sorting it: a row's place is the number of rows before it,
// counted while tiles of scores stream by. `most_relevant`: an upper bound of a query's right answers.
// Memory: 24 bytes per right answer of the queries in work (at most 256, and at most 4 M answers, per
// thread).
void StreamRanks(const EvalData& queries, const EvalData& gallery, const RankingOptions& options,
                 int64_t most_relevant, const SortOut& sort_out, const VisitRanks& visit);

// The nearest row of every query: -1 if all are absent. `self`: row i of the gallery is absent for query i.
struct NearestRow {
  int64_t row = -1;
  double score = 0;
};
std::vector<NearestRow> NearestRows(const EvalData& queries, const EvalData& gallery,
                                    const RankingOptions& options, bool self);

}  // namespace doppel
