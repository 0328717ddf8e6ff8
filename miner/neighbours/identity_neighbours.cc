#include "miner/neighbours/identity_neighbours.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <new>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/base/executor.h"
#include "common/base/status_macros.h"
#include "common/index/exact_scores.h"
#include "common/index/ivf_index.h"
#include "common/index/vector_index.h"
#include "miner/neighbours/best_scores.h"
#include "miner/neighbours/score_kernel.h"

namespace doppel {
namespace {

// Candidates beyond k, so that rounding in float32 does not decide who is among the k best.
constexpr int64_t kSpare = 16;
constexpr int64_t kStripRows = 1024;
constexpr int64_t kTileBytes = 192 << 10;  // of packed columns: they stay in the second-level cache
constexpr int64_t kSearchRows = 16384;     // approximate: between two calls of on_progress

struct PortableNeighbours {
  using Floats = float;
  static constexpr int kLanes = 1;
  static Floats Load(const float* p) { return *p; }
  static void Store(float* p, Floats x) { *p = x; }
  static Floats Broadcast(float x) { return x; }
  static Floats MultiplyAdd(Floats a, Floats b, Floats c) { return c + a * b; }
  static uint32_t AtLeastEither(Floats x, Floats a, Floats b) { return x >= a || x >= b ? 1 : 0; }
};

NeighbourKernel KernelHere() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return NeighbourKernelAvx512();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return NeighbourKernelAvx2();
#endif
  return {4, 4, ScoreGroup<PortableNeighbours, 4, 4>, SelectScores<PortableNeighbours>};
}

int64_t RoundUpTo(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// Rows side by side, filled up with zeros: [groups][dimension][width].
void PackRows(const float* rows, int64_t n, int dimension, int width, float* out) {
  for (int64_t first = 0; first < n; first += width, out += int64_t{width} * dimension) {
    const int present = static_cast<int>(std::min<int64_t>(width, n - first));
    const float* source = rows + first * dimension;
    for (int d = 0; d < dimension; ++d) {
      float* line = out + int64_t{d} * width;
      for (int lane = 0; lane < present; ++lane) line[lane] = source[int64_t{lane} * dimension + d];
      for (int lane = present; lane < width; ++lane) line[lane] = 0;
    }
  }
}

struct Strip {
  int64_t begin;
  int64_t end;
};

// Multiplies strips of rows with one another and offers the products to both rows of each pair.
class StripMultiplier {
 public:
  StripMultiplier(const Matrix& rows, const NeighbourKernel& kernel, BestScores* best)
      : rows_(rows), kernel_(kernel), best_(*best) {
    const int64_t fit = kTileBytes / (int64_t{rows.dimension} * static_cast<int64_t>(sizeof(float)));
    tile_ = RoundUpTo(std::clamp<int64_t>(fit, kernel.width, kStripRows), kernel.width);
  }

  // Touches what `best` holds for the rows of a and b, of nobody else.
  void Run(const Strip& a, const Strip& b) const {
    const bool same = a.begin == b.begin;
    const int dimension = rows_.dimension;
    const int64_t n = a.end - a.begin;
    std::vector<float> groups(RoundUpTo(n, kernel_.rows) * dimension);
    PackRows(rows_.row(a.begin), n, dimension, kernel_.rows, groups.data());
    std::vector<float> panels(tile_ * dimension);
    std::vector<float> scores(kernel_.rows * tile_);
    std::vector<float> column_bounds(tile_);
    std::vector<int32_t> positions(tile_);
    for (int64_t first = b.begin; first < b.end; first += tile_) {
      const int64_t columns = std::min(tile_, b.end - first);
      const int64_t padded = RoundUpTo(columns, kernel_.width);
      PackRows(rows_.row(first), columns, dimension, kernel_.width, panels.data());
      // A strip with itself meets every pair twice: the row's turn suffices.
      std::fill(column_bounds.begin(), column_bounds.end(), std::numeric_limits<float>::infinity());
      if (!same) std::copy_n(best_.bounds() + first, columns, column_bounds.begin());
      for (int64_t i = 0; i < n; i += kernel_.rows) {
        for (int64_t v = 0; v < padded; v += kernel_.width) {
          kernel_.score(&groups[i * dimension], &panels[v * dimension], dimension, &scores[v], tile_);
        }
        const int64_t present = std::min<int64_t>(kernel_.rows, n - i);
        for (int64_t r = 0; r < present; ++r) {
          const int64_t row = a.begin + i + r;
          const float* line = &scores[r * tile_];
          const int64_t found =
              kernel_.select(line, padded, best_.bounds()[row], column_bounds.data(), positions.data());
          for (int64_t f = 0; f < found && positions[f] < columns; ++f) {
            const int64_t other = first + positions[f];
            if (other == row) continue;
            const float score = line[positions[f]];
            best_.Offer(row, {score, static_cast<uint32_t>(other)});
            if (!same) {
              best_.Offer(other, {score, static_cast<uint32_t>(row)});
              column_bounds[positions[f]] = best_.bounds()[other];
            }
          }
        }
      }
    }
  }

 private:
  const Matrix& rows_;
  const NeighbourKernel& kernel_;
  BestScores& best_;
  int64_t tile_;
};

// All pairs of strips, in rounds in which no strip comes twice (the circle method of tournaments): so no two
// threads ever write to one row.
class Tournament {
 public:
  explicit Tournament(int64_t strips) : strips_(strips), seats_(strips + strips % 2) {}

  int64_t rounds() const { return seats_ - 1; }
  int64_t pairs() const { return seats_ / 2; }
  // False: one of the two sits this round out.
  bool Pair(int64_t round, int64_t i, int64_t* a, int64_t* b) const {
    const int64_t circle = seats_ - 1;
    *a = i == 0 ? circle : (round + i) % circle;
    *b = (round - i + circle) % circle;
    return *a < strips_ && *b < strips_;
  }

 private:
  const int64_t strips_;
  const int64_t seats_;
};

absl::Status CheckNeighbourArguments(const Matrix& rows, const NeighbourOptions& options) {
  if (options.neighbours < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("neighbours is ", options.neighbours, ": ask for at least 1"));
  }
  if (rows.rows < 1 || rows.dimension < 1) {
    return absl::InvalidArgumentError("there is no row to find neighbours of");
  }
  if (rows.rows > std::numeric_limits<uint32_t>::max()) {
    return absl::InvalidArgumentError(
        absl::StrCat(rows.rows, " rows: their numbers do not fit into 32 bits"));
  }
  for (int64_t i = 0; i < rows.rows; ++i) {
    const float* row = rows.row(i);
    if (!std::all_of(row, row + rows.dimension, [](float x) { return std::isfinite(x); })) {
      return absl::InvalidArgumentError(absl::StrCat("row ", i, " holds a value that is not finite"));
    }
  }
  return absl::OkStatus();
}

bool GoOn(const NeighbourOptions& options, int64_t done, int64_t rows) {
  return !options.on_progress || options.on_progress(done, rows);
}

absl::Status Cancelled(int64_t done, int64_t rows) {
  return absl::CancelledError(
      absl::StrCat("cancelled after the neighbours of ", done, " of ", rows, " rows"));
}

// The k best of the candidates, by sums in double.
void SettleRow(const Matrix& rows, int64_t row, ScoredRow* candidates, int64_t count,
               IdentityNeighbours* result) {
  for (int64_t i = 0; i < count; ++i) {
    candidates[i].score = static_cast<float>(
        ExactScore(rows.row(row), rows.row(candidates[i].row), rows.dimension, Similarity::kInnerProduct));
  }
  const int64_t k = result->neighbours;
  std::partial_sort(candidates, candidates + std::min(k, count), candidates + count, BetterScore);
  for (int64_t i = 0; i < std::min(k, count); ++i) {
    result->rows[row * k + i] = candidates[i].row;
    result->similarities[row * k + i] = candidates[i].score;
  }
}

absl::Status FindExact(const Matrix& rows, const NeighbourOptions& options, int threads,
                       IdentityNeighbours* result) {
  const int64_t n = rows.rows, k = result->neighbours;
  BestScores best(n, k + kSpare);
  const NeighbourKernel kernel = KernelHere();
  const StripMultiplier multiplier(rows, kernel, &best);
  // Every thread gets several pairs a round, so that none waits long for the last.
  const int64_t strip = std::clamp<int64_t>(n / (int64_t{8} * threads), 64, kStripRows);
  const int64_t strips = (n - 1) / strip + 1;
  const auto at = [&](int64_t s) { return Strip{s * strip, std::min(n, (s + 1) * strip)}; };
  ParallelFor(strips, 1, threads, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) multiplier.Run(at(s), at(s));
  });
  const Tournament tournament(strips);
  for (int64_t round = 0; strips > 1 && round < tournament.rounds(); ++round) {
    const int64_t done = n * round / (tournament.rounds() + 1);
    if (!GoOn(options, done, n)) return Cancelled(done, n);
    ParallelFor(tournament.pairs(), 1, threads, [&](int64_t begin, int64_t end) {
      int64_t a = 0, b = 0;
      for (int64_t i = begin; i < end; ++i) {
        if (tournament.Pair(round, i, &a, &b)) multiplier.Run(at(a), at(b));
      }
    });
  }
  result->rows.resize(n * k);
  result->similarities.resize(n * k);
  ParallelFor(n, 256, threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      int64_t count = 0;
      ScoredRow* candidates = best.Best(i, &count);
      SettleRow(rows, i, candidates, count, result);
    }
  });
  return GoOn(options, n, n) ? absl::OkStatus() : Cancelled(n, n);
}

// The k best of a query's k + 1 that are not the row itself; false if there are not so many.
bool TakeOthers(const SearchResult& found, int64_t query, int64_t row, IdentityNeighbours* result) {
  const int64_t k = result->neighbours;
  int64_t kept = 0;
  for (int64_t i = query * found.k; i < (query + 1) * found.k && kept < k; ++i) {
    if (found.ids[i] < 0 || found.ids[i] == row) continue;
    result->rows[row * k + kept] = static_cast<uint32_t>(found.ids[i]);
    result->similarities[row * k + kept++] = found.scores[i];
  }
  return kept == k;
}

absl::Status FindApproximate(const Matrix& rows, const NeighbourOptions& options, int threads,
                             IdentityNeighbours* result) {
  const int64_t n = rows.rows, k = result->neighbours;
  if (!GoOn(options, 0, n)) return Cancelled(0, n);
  IvfOptions ivf;
  ivf.lists = static_cast<int>(std::clamp<int64_t>(std::llround(std::sqrt(static_cast<double>(n))), 1, n));
  // Cells enough to hold the k wanted ones.
  const int64_t least = RoundUpTo(2 * (k + 1) * ivf.lists, n) / n;
  ivf.probes = static_cast<int>(std::clamp<int64_t>(std::max<int64_t>(options.probes, least), 1, ivf.lists));
  ivf.threads = threads;
  ivf.seed = options.seed;
  ASSIGN_OR_RETURN(const std::unique_ptr<VectorIndex> index, MakeIvfIndex(rows.values, rows.dimension, ivf));
  ASSIGN_OR_RETURN(const std::unique_ptr<VectorIndex> everything,
                   MakeExactIndex(rows.values, rows.dimension, threads));
  result->rows.resize(n * k);
  result->similarities.resize(n * k);
  for (int64_t first = 0; first < n; first += kSearchRows) {
    if (!GoOn(options, first, n)) return Cancelled(first, n);
    const int64_t count = std::min(kSearchRows, n - first);
    const absl::Span<const float> queries(rows.row(first), static_cast<size_t>(count * rows.dimension));
    ASSIGN_OR_RETURN(const SearchResult found, index->Search(queries, static_cast<int>(k) + 1));
    for (int64_t q = 0; q < count; ++q) {
      if (TakeOthers(found, q, first + q, result)) continue;
      // Its cells hold too few: compared with every row, then.
      ASSIGN_OR_RETURN(
          const SearchResult all,
          everything->Search(queries.subspan(q * rows.dimension, rows.dimension), static_cast<int>(k) + 1));
      TakeOthers(all, 0, first + q, result);
    }
  }
  return GoOn(options, n, n) ? absl::OkStatus() : Cancelled(n, n);
}

}  // namespace

absl::StatusOr<IdentityNeighbours> FindIdentityNeighbours(const Matrix& unit_rows,
                                                          const NeighbourOptions& options) {
  RETURN_IF_ERROR(CheckNeighbourArguments(unit_rows, options));
  const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  const int threads = options.threads > 0 ? options.threads : cores;
  IdentityNeighbours result;
  result.neighbours = static_cast<int>(std::min<int64_t>(options.neighbours, unit_rows.rows - 1));
  if (result.neighbours == 0) return result;
  try {
    RETURN_IF_ERROR(options.approximate ? FindApproximate(unit_rows, options, threads, &result)
                                        : FindExact(unit_rows, options, threads, &result));
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrCat("out of memory: ", result.neighbours, " neighbours of ",
                                                     unit_rows.rows,
                                                     " rows; ask for fewer, or search approximately"));
  }
  return result;
}

}  // namespace doppel
