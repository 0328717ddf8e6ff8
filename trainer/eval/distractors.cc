#include "trainer/eval/distractors.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "common/base/permutation.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

constexpr double kNothingClose = -std::numeric_limits<double>::infinity();

// The distractors in their drawn order, no more than the largest gallery takes.
std::vector<float> GatherDistractors(const EvalData& gallery, const std::vector<int64_t>& rows, int64_t count,
                                     uint64_t seed) {
  const KeyedPermutation order(rows.size(), seed);
  std::vector<float> gathered;
  gathered.reserve(count * gallery.dimension);
  for (int64_t i = 0; i < count; ++i) {
    const float* row = gallery.row(rows[order(static_cast<uint64_t>(i))]);
    gathered.insert(gathered.end(), row, row + gallery.dimension);
  }
  return gathered;
}

// [query][size]: the closest of the first `size` distractors.
std::vector<double> ClosestDistractors(const EvalData& queries, absl::Span<const float> distractors,
                                       const std::vector<int64_t>& sizes, const RankingOptions& options) {
  std::vector<double> closest(queries.rows() * sizes.size(), kNothingClose);
  ScoreTileOptions tiles;
  tiles.similarity = options.similarity;
  tiles.threads = options.threads;
  ForEachScoreTile(queries.vectors, distractors, queries.dimension, tiles, [&](const ScoreTile& tile) {
    for (int64_t q = 0; q < tile.queries; ++q) {
      double* mine = &closest[(tile.first_query + q) * sizes.size()];
      const absl::Span<const double> scores = tile.row(q);
      int64_t begin = 0;
      for (size_t k = 0; k < sizes.size() && begin < tile.vectors; ++k) {
        const int64_t end = std::clamp<int64_t>(sizes[k] - tile.first_vector, begin, tile.vectors);
        const absl::Span<const double> part = scores.subspan(begin, end - begin);
        begin = end;
        if (CountAbove(part, mine[k]) > 0) mine[k] = *std::max_element(part.begin(), part.end());
      }
    }
  });
  for (size_t i = 0; i < closest.size(); ++i) {
    if (i % sizes.size() != 0) closest[i] = std::max(closest[i], closest[i - 1]);
  }
  return closest;
}

std::vector<int64_t> DistractorRows(const EvalData& gallery, const LabelGroups& groups,
                                    const EvalData* queries) {
  std::vector<int64_t> rows;
  if (queries == nullptr) {
    for (int64_t i = 0; i < gallery.rows(); ++i) {
      if (groups.Rows(gallery.labels[i]).size() == 1) rows.push_back(i);
    }
    return rows;
  }
  const LabelGroups asked(queries->labels);
  for (int64_t i = 0; i < gallery.rows(); ++i) {
    if (asked.Rows(gallery.labels[i]).empty()) rows.push_back(i);
  }
  return rows;
}

absl::Status SplitSizes(absl::Span<const int64_t> sizes, DistractorsReport* report,
                        std::vector<int64_t>* kept) {
  for (const int64_t size : sizes) {
    if (size < 1) return absl::InvalidArgumentError(absl::StrCat(size, " distractors: at least one"));
    (size > report->available ? report->refused : *kept).push_back(size);
  }
  std::sort(kept->begin(), kept->end());
  kept->erase(std::unique(kept->begin(), kept->end()), kept->end());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<DistractorsReport> EvaluateDistractors(const EvalData& gallery, const EvalData* queries,
                                                      absl::Span<const int64_t> sizes, uint64_t seed,
                                                      const RankingOptions& options) {
  const bool self = queries == nullptr;
  const EvalData& asked = self ? gallery : *queries;
  if (asked.dimension != gallery.dimension) {
    return absl::InvalidArgumentError(
        absl::StrCat("queries have dimension ", asked.dimension, ", the gallery ", gallery.dimension));
  }
  const LabelGroups groups(gallery.labels);
  const std::vector<int64_t> rows = DistractorRows(gallery, groups, queries);
  DistractorsReport report;
  report.available = static_cast<int64_t>(rows.size());
  std::vector<int64_t> kept;
  RETURN_IF_ERROR(SplitSizes(sizes, &report, &kept));
  // Probes without a mate need no scores.
  EvalData probes;
  probes.dimension = asked.dimension;
  std::vector<int64_t> probe_rows;
  for (int64_t i = 0; i < asked.rows(); ++i) {
    const auto mates = static_cast<int64_t>(groups.Rows(asked.labels[i]).size()) - (self ? 1 : 0);
    if (mates < 1) continue;
    probes.vectors.insert(probes.vectors.end(), asked.row(i), asked.row(i) + asked.dimension);
    probe_rows.push_back(i);
    report.pairs += mates;
  }
  report.probes = static_cast<int64_t>(probe_rows.size());
  // Without queries the lone rows are distractors, not probes.
  report.unmatched = self ? 0 : asked.rows() - report.probes;
  if (report.pairs == 0 || report.available == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(report.pairs, " pairs of probe and mate, and ", report.available,
                     " distractors: there must be one of each (distractors are rows whose label ",
                     self ? "no other row has)" : "no query has)"));
  }
  if (kept.empty()) return report;
  const std::vector<float> distractors = GatherDistractors(gallery, rows, kept.back(), seed);
  const std::vector<double> closest = ClosestDistractors(probes, distractors, kept, options);
  std::vector<int64_t> identified(kept.size());
  for (size_t p = 0; p < probe_rows.size(); ++p) {
    const absl::Span<const int64_t> mates = groups.Rows(asked.labels[probe_rows[p]]);
    std::vector<double> scores(mates.size());
    ExactScores(asked.row(probe_rows[p]), gallery.vectors, gallery.dimension, options.similarity, mates,
                scores.data());
    for (size_t m = 0; m < mates.size(); ++m) {
      if (self && mates[m] == probe_rows[p]) continue;
      for (size_t k = 0; k < kept.size(); ++k) {
        identified[k] += scores[m] > closest[p * kept.size() + k] ? 1 : 0;
      }
    }
  }
  for (size_t k = 0; k < kept.size(); ++k) {
    report.rank1.emplace_back(kept[k],
                              static_cast<double>(identified[k]) / static_cast<double>(report.pairs));
  }
  return report;
}

}  // namespace doppel
