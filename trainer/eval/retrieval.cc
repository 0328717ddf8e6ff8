#include "trainer/eval/retrieval.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "trainer/eval/ranking.h"

namespace doppel {
namespace {

constexpr int64_t kJunk = -1;
constexpr int64_t kBackground = 0;

// What is kept of every query's ranking.
struct QueryFigures {
  int64_t first = -1;  // place of the first right answer; -1: there is none
  double average_precision = 0;
  double second = 0;  // R-precision, or the trapezoid
  double third = 0;   // MAP@R, or INP
};

absl::Status CheckPlaces(absl::Span<const int> places) {
  for (const int k : places) {
    if (k < 1) return absl::InvalidArgumentError(absl::StrCat("K is ", k, ": it counts from 1"));
  }
  return absl::OkStatus();
}

absl::Status CheckPair(const EvalData& gallery, const EvalData& queries) {
  if (gallery.dimension == queries.dimension) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("queries have dimension ", queries.dimension, ", the gallery ", gallery.dimension));
}

struct Means {
  int64_t count = 0;
  QueryFigures sum;
  std::vector<std::pair<int, double>> recall;
};

Means Average(const std::vector<QueryFigures>& figures, absl::Span<const int> places) {
  Means means;
  std::vector<int64_t> hits(places.size());
  for (const QueryFigures& query : figures) {
    if (query.first < 0) continue;
    ++means.count;
    means.sum.average_precision += query.average_precision;
    means.sum.second += query.second;
    means.sum.third += query.third;
    for (size_t i = 0; i < places.size(); ++i) hits[i] += query.first < places[i] ? 1 : 0;
  }
  const auto n = static_cast<double>(std::max<int64_t>(means.count, 1));
  means.sum.average_precision /= n;
  means.sum.second /= n;
  means.sum.third /= n;
  for (size_t i = 0; i < places.size(); ++i) {
    means.recall.emplace_back(places[i], static_cast<double>(hits[i]) / n);
  }
  return means;
}

// The rows whose identity is not junk, in their order.
EvalData WithoutJunk(const EvalData& data) {
  EvalData kept;
  kept.dimension = data.dimension;
  kept.vectors.reserve(data.vectors.size());
  for (int64_t i = 0; i < data.rows(); ++i) {
    if (data.labels[i] == kJunk) continue;
    kept.vectors.insert(kept.vectors.end(), data.row(i), data.row(i) + data.dimension);
    kept.labels.push_back(data.labels[i]);
    kept.cameras.push_back(data.cameras[i]);
  }
  return kept;
}

}  // namespace

double AveragePrecision(absl::Span<const int64_t> ranks) {
  double sum = 0;
  for (size_t i = 0; i < ranks.size(); ++i) {
    sum += static_cast<double>(i + 1) / static_cast<double>(ranks[i] + 1);
  }
  return sum / static_cast<double>(ranks.size());
}

double AveragePrecisionTrapezoid(absl::Span<const int64_t> ranks) {
  double sum = 0;
  for (size_t i = 0; i < ranks.size(); ++i) {
    const double here = static_cast<double>(i + 1) / static_cast<double>(ranks[i] + 1);
    const double previous = ranks[i] == 0 ? 1 : static_cast<double>(i) / static_cast<double>(ranks[i]);
    sum += (here + previous) / 2;
  }
  return sum / static_cast<double>(ranks.size());
}

double InverseNegativePenalty(absl::Span<const int64_t> ranks) {
  return static_cast<double>(ranks.size()) / static_cast<double>(ranks.back() + 1);
}

double RPrecision(absl::Span<const int64_t> ranks) {
  const auto r = static_cast<int64_t>(ranks.size());
  const auto inside = std::lower_bound(ranks.begin(), ranks.end(), r) - ranks.begin();
  return static_cast<double>(inside) / static_cast<double>(r);
}

double AveragePrecisionAtR(absl::Span<const int64_t> ranks) {
  const auto r = static_cast<int64_t>(ranks.size());
  double sum = 0;
  for (int64_t i = 0; i < r && ranks[i] < r; ++i) {
    sum += static_cast<double>(i + 1) / static_cast<double>(ranks[i] + 1);
  }
  return sum / static_cast<double>(r);
}

absl::StatusOr<RetrievalReport> EvaluateRetrieval(const EvalData& gallery, const EvalData* queries,
                                                  absl::Span<const int> recall_at,
                                                  const RankingOptions& options) {
  RETURN_IF_ERROR(CheckPlaces(recall_at));
  const bool self = queries == nullptr;
  const EvalData& asked = self ? gallery : *queries;
  RETURN_IF_ERROR(CheckPair(gallery, asked));
  const LabelGroups groups(gallery.labels);
  std::vector<QueryFigures> figures(asked.rows());
  StreamRanks(
      asked, gallery, options, groups.largest(),
      [&](int64_t query, std::vector<int64_t>* relevant, std::vector<int64_t>* absent) {
        const absl::Span<const int64_t> rows = groups.Rows(asked.labels[query]);
        relevant->assign(rows.begin(), rows.end());
        if (!self) return;
        relevant->erase(std::lower_bound(relevant->begin(), relevant->end(), query));
        absent->push_back(query);
      },
      [&](int64_t query, absl::Span<const int64_t> ranks) {
        if (ranks.empty()) return;
        figures[query] = {ranks.front(), AveragePrecision(ranks), RPrecision(ranks),
                          AveragePrecisionAtR(ranks)};
      });
  Means means = Average(figures, recall_at);
  if (means.count == 0) {
    return absl::FailedPreconditionError(absl::StrCat("none of ", asked.rows(), " queries has its label on ",
                                                      self ? "another" : "a",
                                                      " row of the gallery: there is nothing to retrieve"));
  }
  RetrievalReport report;
  report.queries = means.count;
  report.unmatched = asked.rows() - means.count;
  report.gallery = gallery.rows();
  report.recall = std::move(means.recall);
  report.r_precision = means.sum.second;
  report.map_at_r = means.sum.third;
  report.mean_average_precision = means.sum.average_precision;
  return report;
}

absl::StatusOr<MarketReport> EvaluateMarket(const EvalData& all, const EvalData& queries,
                                            absl::Span<const int> cmc_at, const RankingOptions& options) {
  RETURN_IF_ERROR(CheckPlaces(cmc_at));
  RETURN_IF_ERROR(CheckPair(all, queries));
  if ((all.cameras.empty() && all.rows() > 0) || (queries.cameras.empty() && queries.rows() > 0)) {
    return absl::InvalidArgumentError(
        "market1501 needs the camera of every row: without it, the same picture's neighbours would count");
  }
  MarketReport report;
  report.junk = std::count(all.labels.begin(), all.labels.end(), kJunk);
  EvalData copy;
  if (report.junk > 0) copy = WithoutJunk(all);
  const EvalData& gallery = report.junk > 0 ? copy : all;
  report.gallery = gallery.rows();
  report.distractors = std::count(gallery.labels.begin(), gallery.labels.end(), kBackground);
  report.junk_queries = std::count(queries.labels.begin(), queries.labels.end(), kJunk);
  const LabelGroups groups(gallery.labels);
  std::vector<QueryFigures> figures(queries.rows());
  StreamRanks(
      queries, gallery, options, groups.largest(),
      [&](int64_t query, std::vector<int64_t>* relevant, std::vector<int64_t>* absent) {
        for (const int64_t row : groups.Rows(queries.labels[query])) {
          (gallery.cameras[row] == queries.cameras[query] ? absent : relevant)->push_back(row);
        }
      },
      [&](int64_t query, absl::Span<const int64_t> ranks) {
        if (ranks.empty()) return;
        figures[query] = {ranks.front(), AveragePrecision(ranks), AveragePrecisionTrapezoid(ranks),
                          InverseNegativePenalty(ranks)};
      });
  Means means = Average(figures, cmc_at);
  if (means.count == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("none of ", queries.rows(), " queries has its identity in the gallery under another ",
                     "camera: there is nothing to find"));
  }
  report.queries = means.count;
  report.unmatched = queries.rows() - means.count - report.junk_queries;
  report.cmc = std::move(means.recall);
  report.ap_std = means.sum.average_precision;
  report.ap_market = means.sum.second;
  report.minp = means.sum.third;
  return report;
}

}  // namespace doppel
