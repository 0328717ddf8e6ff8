#include "miner/clustering/bounded_assignment.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "common/base/executor.h"

namespace doppel {
namespace {

constexpr float kLeast = -std::numeric_limits<float>::infinity();
// Rows at a time. Without bounds every row is read once per panel, so they should stay in the second-level
// cache; with bounds few are.
constexpr int64_t kBoundedChunk = 1536;
constexpr int64_t kTile = 384;
// Bounds are of no use while centroids go further than this.
constexpr double kTooFar = 0.5;
constexpr double kLongestRow = 1.001;

int64_t Groups(const NearestCentroidKernel& kernel, int64_t centroids, int dimension) {
  const int64_t panels = (centroids + kernel.width - 1) / kernel.width;
  return std::max<int64_t>(1, std::min<int64_t>({panels, 16, dimension / 8}));
}

}  // namespace

// One chunk's share of a run.
class BoundedAssignment::Chunk {
 public:
  Chunk(BoundedAssignment& all, const Matrix& centroids, const PackedCentroids& packed)
      : all_(all), centroids_(centroids), packed_(packed), drift_(all.groups_) {
    for (int64_t g = 0; g < all.groups_; ++g) drift_[g] = static_cast<float>(all.group_drift_[g]);
  }

  void Run(int64_t begin, int64_t end, std::vector<MovedRow>* moved) {
    moved_ = moved;
    moved_->clear();
    for (int64_t tile = begin; tile < end; tile += all_.bounded_ ? end - begin : kTile) {
      const int64_t tile_end = all_.bounded_ ? end : std::min(end, tile + kTile);
      open_.clear();
      for (int64_t i = tile; i < tile_end; ++i) {
        if (!all_.bounded_) {
          open_.push_back({i, kLeast, -1, kLeast, -1});
        } else if (!IsSettled(i)) {
          open_.push_back({i, product_, all_.assignment_[i], kLeast, -1});
        }
      }
      for (int64_t g = 0; g < all_.groups_ && !open_.empty(); ++g) Look(g);
      for (const Open& open : open_) Close(open);
    }
  }

 private:
  struct Open {
    int64_t row;
    float best;       // the highest product so far
    int32_t nearest;  // and with whom
    float second;     // the highest other product in the group of that one, if looked at
    int32_t group;    // the group of that one, or -1: it is the row's own, not looked at
  };

  // Leaves the product with the own centroid in product_ if it is not.
  bool IsSettled(int64_t i) {
    const float* others = all_.others_.data() + i * all_.groups_;
    float highest = kLeast;
    for (int64_t g = 0; g < all_.groups_; ++g) highest = std::max(highest, others[g] + drift_[g]);
    const int32_t own = all_.assignment_[i];
    const auto drift = static_cast<float>(all_.drift_[own]);
    if (all_.own_[i] - drift > highest + all_.slack_) return true;
    product_ = all_.kernel_.dot(all_.rows_.row(i), centroids_.row(own), all_.rows_.dimension);
    all_.own_[i] = product_ + drift;
    return product_ > highest + all_.slack_;
  }

  // The products of the open rows with a group's centroids, for those whose bound does not tell.
  void Look(int64_t g) {
    at_.clear();
    pointer_.clear();
    for (size_t o = 0; o < open_.size(); ++o) {
      if (all_.bounded_ &&
          all_.others_[open_[o].row * all_.groups_ + g] + drift_[g] + all_.slack_ < open_[o].best) {
        continue;
      }
      at_.push_back(static_cast<int32_t>(o));
      pointer_.push_back(all_.rows_.row(open_[o].row));
    }
    const auto count = static_cast<int64_t>(at_.size());
    if (count == 0) return;
    const auto [first, last] = all_.PanelsOf(g, packed_.panels());
    best_.resize(count * 2);
    second_.resize(count * 2);
    lane_.resize(count);
    nearest_.resize(count);
    for (int64_t p = first; p < last; ++p) {
      const int64_t into = p == first ? 0 : count;
      all_.kernel_.top(pointer_.data(), count, all_.rows_.dimension, packed_.panel(p), packed_.lanes(p),
                       best_.data() + into, lane_.data(), second_.data() + into);
      for (int64_t k = 0; k < count; ++k) Combine(k, count, p, p == first);
    }
    for (int64_t k = 0; k < count; ++k) Enter(open_[at_[k]], g, best_[k], nearest_[k], second_[k]);
  }

  void Combine(int64_t k, int64_t count, int64_t panel, bool first) {
    const int32_t nearest = packed_.centroid(panel, lane_[k]);
    if (first) {
      nearest_[k] = nearest;
      return;
    }
    const float best = best_[count + k];
    if (best > best_[k] || (best == best_[k] && nearest < nearest_[k])) {
      second_[k] = std::max(best_[k], second_[count + k]);
      best_[k] = best;
      nearest_[k] = nearest;
    } else {
      second_[k] = std::max(second_[k], best);
    }
  }

  // A group's best, its number and the group's second best for a row.
  void Enter(Open& open, int64_t g, float best, int32_t nearest, float second) {
    float* const others = all_.others_.data() + open.row * all_.groups_;
    others[g] = best - drift_[g];
    // Where the own centroid was known by its product alone, its group has the same again: take that one.
    const bool same = open.group < 0 && nearest == open.nearest;
    if (!same && (best < open.best || (best == open.best && nearest > open.nearest))) return;
    open.best = best;
    open.nearest = nearest;
    open.second = second;
    open.group = static_cast<int32_t>(g);
  }

  void Close(const Open& open) {
    const int64_t i = open.row;
    float* const others = all_.others_.data() + i * all_.groups_;
    const int32_t before = all_.assignment_[i];
    if (open.group >= 0) others[open.group] = open.second - drift_[open.group];
    if (open.nearest == before) {
      all_.own_[i] = open.best + static_cast<float>(all_.drift_[before]);
      return;
    }
    if (all_.bounded_) {
      // It is one of the others now, and its group may not have been looked at.
      const int32_t g = all_.group_[before];
      const float was = all_.own_[i] - static_cast<float>(all_.drift_[before]);
      if (g != open.group) others[g] = std::max(others[g], was - drift_[g]);
    }
    all_.own_[i] = open.best + static_cast<float>(all_.drift_[open.nearest]);
    all_.assignment_[i] = open.nearest;
    moved_->push_back({static_cast<int32_t>(i), before, open.nearest});
  }

  BoundedAssignment& all_;
  const Matrix& centroids_;
  const PackedCentroids& packed_;
  std::vector<float> drift_;
  float product_ = kLeast;
  std::vector<MovedRow>* moved_ = nullptr;
  std::vector<Open> open_;
  // Of the rows that a group is looked at for.
  std::vector<int32_t> at_, lane_, nearest_;
  std::vector<const float*> pointer_;
  std::vector<float> best_, second_;
};

BoundedAssignment::BoundedAssignment(const RowView& rows, const Matrix& centroids,
                                     const NearestCentroidKernel& kernel, int threads)
    : rows_(rows),
      kernel_(kernel),
      threads_(threads),
      groups_(Groups(kernel, centroids.rows, rows.dimension)),
      slack_(static_cast<float>(4e-6 + std::ldexp(2.0 * (rows.dimension + 8), -24))),
      group_(centroids.rows, 0),
      drift_(centroids.rows, 0),
      group_drift_(groups_, 0),
      assignment_(rows.count, -1),
      own_(rows.count, kLeast),
      others_(rows.count * groups_, kLeast),
      moved_((rows.count + kBoundedChunk - 1) / kBoundedChunk) {}

std::pair<int64_t, int64_t> BoundedAssignment::PanelsOf(int64_t group, int64_t panels) const {
  return {group * panels / groups_, (group + 1) * panels / groups_};
}

double BoundedAssignment::Drift(const Matrix& centroids) {
  double furthest = 0;
  std::vector<double> of_group(groups_, 0);
  for (int64_t c = 0; c < centroids.rows; ++c) {
    double square = 0;
    for (int j = 0; j < centroids.dimension; ++j) {
      const double step = double{centroids.row(c)[j]} - previous_[c * centroids.dimension + j];
      square += step * step;
    }
    const double drift = std::sqrt(square) * kLongestRow;
    drift_[c] += drift;
    of_group[group_[c]] = std::max(of_group[group_[c]], drift);
    furthest = std::max(furthest, drift);
  }
  for (int64_t g = 0; g < groups_; ++g) group_drift_[g] += of_group[g];
  return furthest;
}

void BoundedAssignment::Regroup(const Matrix& centroids) {
  order_ = OrderByNeighbourhood(kernel_, centroids.values.data(), centroids.rows, centroids.dimension);
  const int64_t panels = (centroids.rows + kernel_.width - 1) / kernel_.width;
  for (int64_t g = 0; g < groups_; ++g) {
    const auto [first, last] = PanelsOf(g, panels);
    for (int64_t slot = first * kernel_.width; slot < std::min(last * kernel_.width, centroids.rows);
         ++slot) {
      group_[order_[slot]] = static_cast<int32_t>(g);
    }
  }
  std::fill(drift_.begin(), drift_.end(), 0);
  std::fill(group_drift_.begin(), group_drift_.end(), 0);
}

const std::vector<std::vector<MovedRow>>& BoundedAssignment::Run(const Matrix& centroids) {
  bounded_ = !previous_.empty() && Drift(centroids) < kTooFar;
  if (!bounded_) Regroup(centroids);
  const PackedCentroids packed(kernel_, centroids.values.data(), centroids.rows, centroids.dimension, order_);
  ParallelFor(rows_.count, kBoundedChunk, threads_, [&](int64_t begin, int64_t end) {
    Chunk(*this, centroids, packed).Run(begin, end, &moved_[begin / kBoundedChunk]);
  });
  previous_ = centroids.values;
  return moved_;
}

void BoundedAssignment::Take(const Matrix& centroids, std::vector<int32_t>* assignment,
                             std::vector<float>* product) {
  ParallelFor(rows_.count, kBoundedChunk, threads_, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      own_[i] = kernel_.dot(rows_.row(i), centroids.row(assignment_[i]), rows_.dimension);
    }
  });
  *assignment = std::move(assignment_);
  *product = std::move(own_);
}

}  // namespace doppel
