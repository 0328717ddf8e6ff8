#include "trainer/eval/two_step.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/executor.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

constexpr int64_t kTwoStepGrain = 16;

// The k best of these rows for one query.
void BestRows(const EvalData& data, const float* query, absl::Span<const int64_t> rows, int k, int64_t* ids,
              float* scores) {
  std::vector<double> exact(rows.size());
  ExactScores(query, data.vectors, data.dimension, Similarity::kInnerProduct, rows, exact.data());
  std::vector<std::pair<float, int64_t>> order(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) order[i] = {-static_cast<float>(exact[i]), rows[i]};
  const size_t kept = std::min(order.size(), static_cast<size_t>(k));
  std::partial_sort(order.begin(), order.begin() + static_cast<int64_t>(kept), order.end());
  for (size_t i = 0; i < kept; ++i) {
    ids[i] = order[i].second;
    scores[i] = -order[i].first;
  }
}

}  // namespace

IdentityMeans MeanPerIdentity(const EvalData& data) {
  const LabelGroups groups(data.labels);
  IdentityMeans identities;
  identities.labels = data.labels;
  std::sort(identities.labels.begin(), identities.labels.end());
  identities.labels.erase(std::unique(identities.labels.begin(), identities.labels.end()),
                          identities.labels.end());
  identities.means.reserve(identities.labels.size() * data.dimension);
  std::vector<double> sum(data.dimension);
  for (const int64_t label : identities.labels) {
    const absl::Span<const int64_t> rows = groups.Rows(label);
    std::fill(sum.begin(), sum.end(), 0.0);
    for (const int64_t row : rows) {
      for (int d = 0; d < data.dimension; ++d) sum[d] += static_cast<double>(data.row(row)[d]);
    }
    double norm = 0;
    for (const double x : sum) norm += x * x;
    norm = std::sqrt(norm);
    const bool cancelled = norm < 1e-6 * static_cast<double>(rows.size());
    for (int d = 0; d < data.dimension; ++d) {
      identities.means.push_back(cancelled ? data.row(rows.front())[d] : static_cast<float>(sum[d] / norm));
    }
  }
  return identities;
}

absl::StatusOr<TwoStepResult> SearchTwoSteps(const EvalData& data, absl::Span<const float> queries,
                                             int identities, int top, int threads,
                                             const IndexFactory& make_index) {
  if (identities < 1 || top < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("search for ", top, " images in ", identities, " identities: both at least 1"));
  }
  const IdentityMeans means = MeanPerIdentity(data);
  ASSIGN_OR_RETURN(const std::unique_ptr<VectorIndex> index, make_index(means.means, data.dimension));
  TwoStepResult result;
  ASSIGN_OR_RETURN(result.identities, index->Search(queries, identities));
  for (int64_t& id : result.identities.ids) id = id < 0 ? id : means.labels[id];
  const int64_t n = result.identities.queries;
  result.rows.queries = n;
  result.rows.k = top;
  result.rows.ids.assign(static_cast<size_t>(n * top), -1);
  result.rows.scores.assign(result.rows.ids.size(), -std::numeric_limits<float>::infinity());
  const LabelGroups groups(data.labels);
  ParallelFor(n, kTwoStepGrain, threads, [&](int64_t begin, int64_t end) {
    std::vector<int64_t> rows;
    for (int64_t q = begin; q < end; ++q) {
      rows.clear();
      for (int i = 0; i < identities; ++i) {
        if (result.identities.scores[q * identities + i] == -std::numeric_limits<float>::infinity()) break;
        const absl::Span<const int64_t> inside = groups.Rows(result.identities.ids[q * identities + i]);
        rows.insert(rows.end(), inside.begin(), inside.end());
      }
      BestRows(data, &queries[q * data.dimension], rows, top, &result.rows.ids[q * top],
               &result.rows.scores[q * top]);
    }
  });
  return result;
}

}  // namespace doppel
