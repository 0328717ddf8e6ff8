#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/base/executor.h"
#include "common/base/philox.h"
#include "common/base/status_macros.h"
#include "miner/clustering/lloyd.h"
#include "miner/clustering/seeding.h"

namespace doppel {
namespace {

struct Cell {
  std::vector<int32_t> members;  // rows of the view
  int64_t subspaces = 0;
  int64_t first = 0;  // its subspaces are first, first + 1, …
};

// Every cell that has rows gets at least one and at most as many as it has rows, otherwise in proportion, by
// largest remainders.
void Apportion(int64_t subspaces, int64_t rows, std::vector<Cell>& cells) {
  std::vector<std::pair<double, size_t>> remainder;
  remainder.reserve(cells.size());
  int64_t given = 0;
  for (size_t c = 0; c < cells.size(); ++c) {
    const auto size = static_cast<int64_t>(cells[c].members.size());
    const double share = static_cast<double>(subspaces) * size / rows;
    cells[c].subspaces = std::min(size, std::max<int64_t>(1, static_cast<int64_t>(share)));
    given += cells[c].subspaces;
    remainder.emplace_back(share - cells[c].subspaces, c);
  }
  std::sort(remainder.begin(), remainder.end(), [](const auto& a, const auto& b) {
    return a.first > b.first || (a.first == b.first && a.second < b.second);
  });
  while (given != subspaces) {
    const int64_t before = given;
    for (const auto& [rest, c] : remainder) {
      if (given < subspaces && cells[c].subspaces < static_cast<int64_t>(cells[c].members.size())) {
        ++cells[c].subspaces;
        ++given;
      }
    }
    for (auto it = remainder.rbegin(); it != remainder.rend(); ++it) {
      if (given > subspaces && cells[it->second].subspaces > 1) {
        --cells[it->second].subspaces;
        --given;
      }
    }
    if (given == before) return;
  }
}

class TwoLevels {
 public:
  TwoLevels(const RowView& rows, const ClusterOptions& options, int threads, ClusterResult* result)
      : rows_(rows), options_(options), threads_(threads), result_(*result) {}

  absl::Status Run() {
    const int upper = std::max(1, options_.iterations / 2);
    ASSIGN_OR_RETURN(ClusterResult coarse, ClusterCells(upper));
    std::vector<Cell> cells = CellsOf(coarse);
    result_.centroids = Matrix{0, rows_.dimension, {}};
    result_.assignment = std::move(coarse.assignment);
    result_.similarity = std::move(coarse.similarity);
    for (Cell& cell : cells) {
      cell.first = result_.centroids.rows;
      result_.centroids.rows += cell.subspaces;
    }
    result_.centroids.values.resize(static_cast<size_t>(result_.centroids.rows) * rows_.dimension);
    // As many waves as iterations are left, so that progress and a wish to cancel are looked after.
    const auto count = static_cast<int64_t>(cells.size());
    const int64_t waves = std::min<int64_t>(count, std::max(1, options_.iterations - upper));
    for (int64_t wave = 0; wave < waves; ++wave) {
      RETURN_IF_ERROR(
          ClusterWave(cells, wave * count / waves, (wave + 1) * count / waves, options_.iterations - upper));
      RETURN_IF_ERROR(Report(static_cast<int>(upper + wave + 1)));
    }
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<ClusterResult> ClusterCells(int iterations) {
    ClusterOptions options = options_;
    options.subspaces = static_cast<int>(std::lround(std::sqrt(options_.subspaces)));
    options.iterations = iterations;
    options.seeding = Seeding::kPlusPlus;
    if (options_.on_iteration) {
      options.on_iteration = [this](int iteration, int, double objective) {
        return options_.on_iteration(iteration, options_.iterations, objective);
      };
    }
    ClusterResult coarse;
    ASSIGN_OR_RETURN(Matrix first, FirstCentroids(rows_, options, threads_));
    RETURN_IF_ERROR(RunLloyd(rows_, std::move(first), options, threads_, &coarse));
    result_.objective = coarse.objective;
    return coarse;
  }

  std::vector<Cell> CellsOf(const ClusterResult& coarse) const {
    std::vector<Cell> cells(coarse.centroids.rows);
    for (int64_t i = 0; i < rows_.count; ++i) {
      cells[coarse.assignment[i]].members.push_back(static_cast<int32_t>(i));
    }
    cells.erase(std::remove_if(cells.begin(), cells.end(), [](const Cell& c) { return c.members.empty(); }),
                cells.end());
    Apportion(options_.subspaces, rows_.count, cells);
    return cells;
  }

  absl::Status ClusterWave(const std::vector<Cell>& cells, int64_t begin, int64_t end, int iterations) {
    absl::Mutex mutex;
    absl::Status status;
    ParallelFor(end - begin, 1, threads_, [&](int64_t from, int64_t to) {
      for (int64_t c = begin + from; c < begin + to; ++c) {
        absl::Status one = ClusterCell(cells[c], MixKey(options_.seed, c), std::max(1, iterations));
        if (one.ok()) continue;
        const absl::MutexLock lock(&mutex);
        status.Update(one);
      }
    });
    return status;
  }

  // Writes what is the cell's own in the result.
  absl::Status ClusterCell(const Cell& cell, uint64_t seed, int iterations) {
    std::vector<int32_t> list = cell.members;
    if (rows_.list != nullptr) {
      for (int32_t& row : list) row = rows_.list[row];
    }
    const RowView rows{rows_.values, rows_.dimension, list.data(), static_cast<int64_t>(list.size())};
    const int d = rows_.dimension;
    ClusterResult fine;
    if (cell.subspaces < rows.count) {
      ClusterOptions options;
      options.subspaces = static_cast<int>(cell.subspaces);
      options.iterations = iterations;
      options.tolerance = options_.tolerance;
      options.seed = seed;
      options.seeding = Seeding::kPlusPlus;
      ASSIGN_OR_RETURN(Matrix first, FirstCentroids(rows, options, 1));
      RETURN_IF_ERROR(RunLloyd(rows, std::move(first), options, 1, &fine));
    } else {
      for (int64_t i = 0; i < rows.count; ++i) {
        fine.centroids.values.insert(fine.centroids.values.end(), rows.row(i), rows.row(i) + d);
      }
      fine.assignment.resize(rows.count);
      std::iota(fine.assignment.begin(), fine.assignment.end(), 0);
      fine.similarity.assign(rows.count, 1);
    }
    std::copy(fine.centroids.values.begin(), fine.centroids.values.end(), result_.centroids.row(cell.first));
    for (size_t i = 0; i < cell.members.size(); ++i) {
      result_.assignment[cell.members[i]] = static_cast<int32_t>(cell.first + fine.assignment[i]);
      result_.similarity[cell.members[i]] = fine.similarity[i];
    }
    return absl::OkStatus();
  }

  absl::Status Report(int iteration) {
    double objective = 0;
    for (float similarity : result_.similarity) objective += 1.0 - similarity;
    result_.objective.push_back(objective);
    if (options_.on_iteration && !options_.on_iteration(iteration, options_.iterations, objective)) {
      return absl::CancelledError(
          absl::StrCat("cluster: cancelled after iteration ", iteration, " of ", options_.iterations));
    }
    return absl::OkStatus();
  }

  const RowView rows_;
  const ClusterOptions& options_;
  const int threads_;
  ClusterResult& result_;
};

}  // namespace

absl::Status RunTwoLevels(const RowView& rows, const ClusterOptions& options, int threads,
                          ClusterResult* result) {
  return TwoLevels(rows, options, threads, result).Run();
}

}  // namespace doppel
