#include "trainer/eval/ranking.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace doppel {
namespace {

constexpr double kRankingInfinity = std::numeric_limits<double>::infinity();
constexpr int64_t kAnswersInWork = int64_t{4} << 20;
// Up to so many right answers, a comparison with each of them for every score is cheaper than a search.
constexpr size_t kFewAnswers = 24;

struct Place {
  double score;
  int64_t row;
};

bool Before(const Place& a, const Place& b) {
  return a.score > b.score || (a.score == b.score && a.row < b.row);
}

// One query: its right answers in order, and how many rows were seen before each of them.
class RankCounter {
 public:
  void Start(const EvalData& queries, const EvalData& gallery, Similarity similarity, int64_t query,
             const SortOut& sort_out) {
    std::vector<int64_t> relevant;
    std::vector<int64_t> absent;
    sort_out(query, &relevant, &absent);
    if (relevant.empty()) return;
    answers_ = Score(queries.row(query), gallery, similarity, relevant);
    std::sort(answers_.begin(), answers_.end(), Before);
    before_.assign(answers_.size(), 0);
    // Absent rows go by in the tiles like all others: they are taken off beforehand.
    for (const Place& place : Score(queries.row(query), gallery, similarity, absent)) {
      const size_t i = FirstBehind(place);
      if (i < before_.size()) --before_[i];
    }
    // With few answers each one's count is kept on its own, not as a difference.
    if (Few()) Accumulate();
  }

  void Add(absl::Span<const double> scores, int64_t first_row) {
    if (answers_.empty()) return;
    if (Few()) {
      for (size_t i = 0; i < answers_.size(); ++i) before_[i] += RowsBefore(answers_[i], scores, first_row);
      return;
    }
    const double least = answers_.back().score;
    for (size_t j = 0; j < scores.size(); ++j) {
      if (scores[j] < least) continue;
      const size_t i = FirstBehind({scores[j], first_row + static_cast<int64_t>(j)});
      if (i < before_.size()) ++before_[i];
    }
  }

  absl::Span<const int64_t> Finish() {
    if (!Few()) Accumulate();
    return before_;
  }

 private:
  static std::vector<Place> Score(const float* query, const EvalData& gallery, Similarity similarity,
                                  const std::vector<int64_t>& rows) {
    std::vector<double> scores(rows.size());
    ExactScores(query, gallery.vectors, gallery.dimension, similarity, rows, scores.data());
    std::vector<Place> places(rows.size());
    for (size_t i = 0; i < rows.size(); ++i) places[i] = {scores[i], rows[i]};
    return places;
  }

  // Rows of lower index win ties.
  static int64_t RowsBefore(const Place& answer, absl::Span<const double> scores, int64_t first_row) {
    const int64_t n = static_cast<int64_t>(scores.size());
    const auto split = static_cast<size_t>(std::clamp<int64_t>(answer.row - first_row, 0, n));
    return CountAbove(scores.first(split), std::nextafter(answer.score, -kRankingInfinity)) +
           CountAbove(scores.subspan(split), answer.score);
  }

  // The first answer that comes behind this place.
  size_t FirstBehind(const Place& place) const {
    return std::upper_bound(answers_.begin(), answers_.end(), place, Before) - answers_.begin();
  }

  void Accumulate() {
    for (size_t i = 1; i < before_.size(); ++i) before_[i] += before_[i - 1];
  }

  bool Few() const { return answers_.size() <= kFewAnswers; }

  std::vector<Place> answers_;
  std::vector<int64_t> before_;
};

}  // namespace

void StreamRanks(const EvalData& queries, const EvalData& gallery, const RankingOptions& options,
                 int64_t most_relevant, const SortOut& sort_out, const VisitRanks& visit) {
  const int64_t n = queries.rows();
  ScoreTileOptions tiles;
  tiles.similarity = options.similarity;
  tiles.threads = options.threads;
  tiles.max_queries =
      std::clamp<int64_t>(kAnswersInWork / std::max<int64_t>(most_relevant, 1), 8, tiles.max_queries);
  // Every query belongs to one block, and so to one thread.
  std::vector<std::vector<RankCounter>> counters(n);
  if (gallery.rows() == 0) {
    for (int64_t q = 0; q < n; ++q) visit(q, {});
    return;
  }
  ForEachScoreTile(queries.vectors, gallery.vectors, queries.dimension, tiles, [&](const ScoreTile& tile) {
    std::vector<RankCounter>& block = counters[tile.first_query];
    if (tile.first_vector == 0) {
      block.resize(tile.queries);
      for (int64_t q = 0; q < tile.queries; ++q) {
        block[q].Start(queries, gallery, options.similarity, tile.first_query + q, sort_out);
      }
    }
    for (int64_t q = 0; q < tile.queries; ++q) block[q].Add(tile.row(q), tile.first_vector);
    if (tile.first_vector + tile.vectors < gallery.rows()) return;
    for (int64_t q = 0; q < tile.queries; ++q) visit(tile.first_query + q, block[q].Finish());
    std::vector<RankCounter>().swap(block);
  });
}

std::vector<NearestRow> NearestRows(const EvalData& queries, const EvalData& gallery,
                                    const RankingOptions& options, bool self) {
  std::vector<NearestRow> nearest(queries.rows());
  ScoreTileOptions tiles;
  tiles.similarity = options.similarity;
  tiles.threads = options.threads;
  ForEachScoreTile(queries.vectors, gallery.vectors, queries.dimension, tiles, [&](const ScoreTile& tile) {
    for (int64_t q = 0; q < tile.queries; ++q) {
      NearestRow& best = nearest[tile.first_query + q];
      const absl::Span<const double> scores = tile.row(q);
      if (best.row >= 0 && CountAbove(scores, best.score) == 0) continue;
      for (int64_t j = 0; j < tile.vectors; ++j) {
        const int64_t row = tile.first_vector + j;
        if (self && row == tile.first_query + q) continue;
        if (best.row < 0 || scores[j] > best.score) best = {row, scores[j]};
      }
    }
  });
  return nearest;
}

}  // namespace doppel
