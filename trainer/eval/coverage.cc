#include "trainer/eval/coverage.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "trainer/eval/ranking.h"

namespace doppel {

absl::StatusOr<CoverageReport> Coverage(absl::Span<const double> confidence, const std::vector<bool>& right,
                                        absl::Span<const double> targets) {
  if (confidence.size() != right.size() || confidence.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(confidence.size(), " confidences of ", right.size(), " answers"));
  }
  CoverageReport report;
  for (const double target : targets) {
    if (!(target > 0 && target <= 1)) {
      return absl::InvalidArgumentError(
          absl::StrCat("coverage at precision ", target, ": it must be above 0 and at most 1"));
    }
    report.points.push_back({target, 0, 0, 0, std::numeric_limits<double>::infinity()});
  }
  for (size_t i = 0; i < confidence.size(); ++i) {
    if (std::isnan(confidence[i])) {
      return absl::InvalidArgumentError(absl::StrCat("confidence ", i, " is not a number"));
    }
  }
  std::vector<size_t> order(confidence.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return confidence[a] > confidence[b]; });
  const auto n = static_cast<double>(order.size());
  int64_t correct = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    correct += right[order[i]] ? 1 : 0;
    if (i + 1 < order.size() && confidence[order[i + 1]] == confidence[order[i]]) continue;
    const auto answered = static_cast<int64_t>(i + 1);
    const double precision = static_cast<double>(correct) / static_cast<double>(answered);
    for (CoveragePoint& point : report.points) {
      if (precision < point.target) continue;
      point = {point.target, static_cast<double>(answered) / n, answered, precision, confidence[order[i]]};
    }
  }
  report.queries = static_cast<int64_t>(order.size());
  report.accuracy = static_cast<double>(correct) / n;
  return report;
}

absl::StatusOr<CoverageReport> EvaluateCoverage(const EvalData& gallery, const EvalData* queries,
                                                absl::Span<const double> targets,
                                                const RankingOptions& options) {
  const bool self = queries == nullptr;
  const EvalData& asked = self ? gallery : *queries;
  if (asked.dimension != gallery.dimension || gallery.rows() < (self ? 2 : 1) || asked.rows() == 0) {
    return absl::InvalidArgumentError(absl::StrCat("coverage of ", asked.rows(), " queries of dimension ",
                                                   asked.dimension, " on a gallery of ", gallery.rows(),
                                                   " rows of dimension ", gallery.dimension));
  }
  const LabelGroups groups(gallery.labels);
  const std::vector<NearestRow> nearest = NearestRows(asked, gallery, options, self);
  std::vector<double> confidence(nearest.size());
  std::vector<bool> right(nearest.size());
  int64_t unmatched = 0;
  for (size_t i = 0; i < nearest.size(); ++i) {
    const auto query = static_cast<int64_t>(i);
    right[i] = gallery.labels[nearest[i].row] == asked.labels[i];
    unmatched += groups.Rows(asked.labels[i]).size() <= (self ? 1 : 0) ? 1 : 0;
    confidence[i] = nearest[i].score;
    if (options.similarity == Similarity::kEuclidean) {
      double sum = 0;
      for (int d = 0; d < gallery.dimension; ++d) {
        const double difference =
            static_cast<double>(asked.row(query)[d]) - static_cast<double>(gallery.row(nearest[i].row)[d]);
        sum += difference * difference;
      }
      confidence[i] = -std::sqrt(sum);
    }
  }
  ASSIGN_OR_RETURN(CoverageReport report, Coverage(confidence, right, targets));
  report.unmatched = unmatched;
  return report;
}

}  // namespace doppel
