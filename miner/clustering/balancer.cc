#include "miner/clustering/balancer.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <set>
#include <utility>
#include <vector>

#include "miner/clustering/nearest_centroid.h"

namespace doppel {
namespace {

double Dot(const float* a, const float* b, int dimension) {
  double sum = 0;
  for (int j = 0; j < dimension; ++j) sum += double{a[j]} * b[j];
  return sum;
}

class Merger {
 public:
  Merger(const RowView& rows, ClusterResult* result, int64_t min_size)
      : rows_(rows),
        result_(*result),
        min_size_(std::max<int64_t>(1, min_size)),
        size_(result->centroids.rows, 0),
        into_(result->centroids.rows, kAlive),
        changed_(result->centroids.rows, false) {
    for (int32_t subspace : result_.assignment) ++size_[subspace];
    for (int64_t s = 0; s < result_.centroids.rows; ++s) by_size_.emplace(size_[s], s);
  }

  void Run() {
    if (by_size_.begin()->first >= min_size_) return;
    SumRows();
    while (by_size_.size() > 1 && by_size_.begin()->first < min_size_) MergeSmallest();
    Renumber();
  }

 private:
  static constexpr int64_t kAlive = -1;

  void SumRows() {
    const int d = rows_.dimension;
    sum_.assign(result_.centroids.rows * d, 0);
    for (int64_t i = 0; i < rows_.count; ++i) {
      double* sum = sum_.data() + int64_t{result_.assignment[i]} * d;
      for (int j = 0; j < d; ++j) sum[j] += rows_.row(i)[j];
    }
  }

  int64_t NearestTo(int64_t subspace) const {
    int64_t nearest = -1;
    double best = 0;
    for (int64_t s = 0; s < result_.centroids.rows; ++s) {
      if (s == subspace || into_[s] != kAlive) continue;
      const double cosine = Dot(result_.centroids.row(s), result_.centroids.row(subspace), rows_.dimension);
      if (nearest < 0 || cosine > best) {
        nearest = s;
        best = cosine;
      }
    }
    return nearest;
  }

  void MergeSmallest() {
    const auto [size, from] = *by_size_.begin();
    by_size_.erase(by_size_.begin());
    const int64_t to = NearestTo(from);
    into_[from] = to;
    ++result_.merged;
    if (size == 0) return;
    by_size_.erase({size_[to], to});
    size_[to] += size;
    by_size_.emplace(size_[to], to);
    changed_[to] = true;
    UpdateCentroid(from, to);
  }

  void UpdateCentroid(int64_t from, int64_t to) {
    const int d = rows_.dimension;
    double* sum = sum_.data() + to * d;
    double square = 0;
    for (int j = 0; j < d; ++j) {
      sum[j] += sum_[from * d + j];
      square += sum[j] * sum[j];
    }
    if (square == 0) return;  // opposite rows have no mean direction: the old centroid stays
    for (int j = 0; j < d; ++j) result_.centroids.row(to)[j] = static_cast<float>(sum[j] / std::sqrt(square));
  }

  void Renumber() {
    const int d = rows_.dimension;
    std::vector<int32_t> number(into_.size());
    int32_t next = 0;
    for (size_t s = 0; s < into_.size(); ++s) {
      if (into_[s] == kAlive) number[s] = next++;
    }
    for (int64_t i = 0; i < rows_.count; ++i) {
      int64_t subspace = result_.assignment[i];
      while (into_[subspace] != kAlive) subspace = into_[subspace];
      if (changed_[subspace]) {
        result_.similarity[i] = static_cast<float>(Dot(rows_.row(i), result_.centroids.row(subspace), d));
      }
      result_.assignment[i] = number[subspace];
    }
    for (size_t s = 0; s < into_.size(); ++s) {
      if (into_[s] == kAlive) std::copy_n(result_.centroids.row(s), d, result_.centroids.row(number[s]));
    }
    result_.centroids.rows = next;
    result_.centroids.values.resize(static_cast<size_t>(next) * d);
  }

  const RowView rows_;
  ClusterResult& result_;
  const int64_t min_size_;
  std::vector<int64_t> size_;
  std::vector<int64_t> into_;                      // kAlive, or the subspace that it was merged into
  std::vector<bool> changed_;                      // its centroid is a new one
  std::vector<double> sum_;                        // of the rows of each subspace
  std::set<std::pair<int64_t, int64_t>> by_size_;  // (size, subspace) of those alive
};

// Two-means within one subspace, again and again until the parts are small enough.
class Splitter {
 public:
  Splitter(const RowView& rows, ClusterResult* result, int64_t min_size, int64_t max_size)
      : rows_(rows), result_(*result), min_size_(std::max<int64_t>(1, min_size)), max_size_(max_size) {}

  void Run() {
    std::vector<std::vector<int64_t>> members(result_.centroids.rows);
    for (int64_t i = 0; i < rows_.count; ++i) members[result_.assignment[i]].push_back(i);
    for (size_t s = 0; s < members.size(); ++s) {
      const auto size = static_cast<int64_t>(members[s].size());
      if (size <= max_size_) continue;
      first_ = static_cast<int32_t>(s);
      Bisect(members[s].data(), size, (size + max_size_ - 1) / max_size_);
    }
  }

 private:
  static constexpr int kTwoMeansIterations = 8;

  // `parts` * min_size_ ≤ count ≤ `parts` * max_size_.
  void Bisect(int64_t* members, int64_t count, int64_t parts) {
    if (parts == 1) return Emit(members, count);
    const int64_t two_means = OrderByBorder(members, count);
    // As near to the border as both sides can be made up of parts of an allowed size.
    int64_t best_cut = -1, left_parts = 1;
    for (int64_t left = 1; left < parts; ++left) {
      const int64_t right = parts - left;
      const int64_t low = std::max(left * min_size_, count - right * max_size_);
      const int64_t high = std::min(left * max_size_, count - right * min_size_);
      if (low > high) continue;
      const int64_t cut = std::min(std::max(two_means, low), high);
      if (best_cut < 0 || std::abs(cut - two_means) < std::abs(best_cut - two_means)) {
        best_cut = cut;
        left_parts = left;
      }
    }
    Bisect(members, best_cut, left_parts);
    Bisect(members + best_cut, count - best_cut, parts - left_parts);
  }

  // Sorts by which of two means is nearer, and by how much; returns how many are nearer to the first.
  int64_t OrderByBorder(int64_t* members, int64_t count) const {
    const int d = rows_.dimension;
    std::vector<double> difference = Sum(members, count);  // first - second
    const float* a = Furthest(members, count, difference.data());
    std::vector<double> from_a(a, a + d);
    const float* b = Furthest(members, count, from_a.data());
    for (int j = 0; j < d; ++j) difference[j] = double{a[j]} - b[j];
    std::vector<std::pair<double, int64_t>> order(count);
    int64_t nearer = 0;
    for (int iteration = 0; iteration < kTwoMeansIterations; ++iteration) {
      std::vector<double> first(d, 0), second(d, 0);
      const int64_t before = nearer;
      nearer = 0;
      for (int64_t i = 0; i < count; ++i) {
        const float* row = rows_.row(members[i]);
        double side = 0;
        for (int j = 0; j < d; ++j) side += difference[j] * row[j];
        order[i] = {-side, members[i]};
        nearer += side > 0 ? 1 : 0;
        double* const to = side > 0 ? first.data() : second.data();
        for (int j = 0; j < d; ++j) to[j] += row[j];
      }
      const double first_norm = Norm(first), second_norm = Norm(second);
      if (nearer == before || first_norm == 0 || second_norm == 0) break;
      for (int j = 0; j < d; ++j) difference[j] = first[j] / first_norm - second[j] / second_norm;
    }
    std::sort(order.begin(), order.end());
    for (int64_t i = 0; i < count; ++i) members[i] = order[i].second;
    return nearer;
  }

  std::vector<double> Sum(const int64_t* members, int64_t count) const {
    std::vector<double> sum(rows_.dimension, 0);
    for (int64_t i = 0; i < count; ++i) {
      for (int j = 0; j < rows_.dimension; ++j) sum[j] += rows_.row(members[i])[j];
    }
    return sum;
  }

  static double Norm(const std::vector<double>& v) {
    double square = 0;
    for (double x : v) square += x * x;
    return std::sqrt(square);
  }

  const float* Furthest(const int64_t* members, int64_t count, const double* from) const {
    const float* furthest = nullptr;
    double least = 0;
    for (int64_t i = 0; i < count; ++i) {
      double product = 0;
      for (int j = 0; j < rows_.dimension; ++j) product += from[j] * rows_.row(members[i])[j];
      if (furthest != nullptr && product >= least) continue;
      furthest = rows_.row(members[i]);
      least = product;
    }
    return furthest;
  }

  void Emit(const int64_t* members, int64_t count) {
    Matrix& centroids = result_.centroids;
    const int d = rows_.dimension;
    int64_t number = first_;
    if (first_ >= 0) {
      first_ = -1;
    } else {
      number = centroids.rows++;
      ++result_.split;
      // Until it has its own: the centroid of what it was part of.
      const std::vector<float> before(centroids.row(parent_), centroids.row(parent_) + d);
      centroids.values.insert(centroids.values.end(), before.begin(), before.end());
    }
    parent_ = number;
    const std::vector<double> sum = Sum(members, count);
    const double norm = Norm(sum);
    if (norm > 0) {
      for (int j = 0; j < d; ++j) centroids.row(number)[j] = static_cast<float>(sum[j] / norm);
    }
    for (int64_t i = 0; i < count; ++i) {
      result_.assignment[members[i]] = static_cast<int32_t>(number);
      result_.similarity[members[i]] =
          static_cast<float>(Dot(rows_.row(members[i]), centroids.row(number), d));
    }
  }

  const RowView rows_;
  ClusterResult& result_;
  const int64_t min_size_, max_size_;
  int64_t first_ = -1;   // the number that the next part takes over, or -1
  int64_t parent_ = -1;  // the part before
};

// Round after round, what full subspaces have too many of goes where there is room. A round ends what it
// began or fills a subspace up, so there are at most as many as subspaces.
class Limiter {
 public:
  Limiter(const RowView& rows, int64_t capacity, int threads, ClusterResult* result)
      : rows_(rows),
        result_(*result),
        capacity_(capacity),
        threads_(threads),
        size_(result->centroids.rows, 0) {
    for (int32_t subspace : result_.assignment) ++size_[subspace];
  }

  void Run() {
    while (true) {
      const std::vector<Offer> offers = MakeOffers();
      if (offers.empty()) return;
      for (const Offer& offer : offers) {
        int32_t& subspace = result_.assignment[offer.row];
        if (size_[subspace] <= capacity_ || size_[offer.to] >= capacity_) continue;
        --size_[subspace];
        ++size_[offer.to];
        subspace = offer.to;
        result_.similarity[offer.row] = offer.similarity;
        ++result_.moved;
      }
    }
  }

 private:
  struct Offer {
    float loss;  // of similarity
    int32_t row, to;
    float similarity;
  };

  // For every row of a subspace that is too large, the best one with room: least loss first.
  std::vector<Offer> MakeOffers() const {
    std::vector<int32_t> candidates, list, room;
    for (int64_t i = 0; i < rows_.count; ++i) {
      if (size_[result_.assignment[i]] <= capacity_) continue;
      candidates.push_back(static_cast<int32_t>(i));
      list.push_back(rows_.list == nullptr ? static_cast<int32_t>(i) : rows_.list[i]);
    }
    if (candidates.empty()) return {};
    std::vector<float> centroids;
    for (size_t s = 0; s < size_.size(); ++s) {
      if (size_[s] >= capacity_) continue;
      room.push_back(static_cast<int32_t>(s));
      const float* centroid = result_.centroids.row(static_cast<int64_t>(s));
      centroids.insert(centroids.end(), centroid, centroid + rows_.dimension);
    }
    std::vector<int64_t> nearest(list.size());
    std::vector<float> product(list.size());
    NearestCentroids({rows_.values, rows_.dimension, list.data(), static_cast<int64_t>(list.size())},
                     centroids.data(), static_cast<int64_t>(room.size()), threads_, nearest.data(),
                     product.data());
    std::vector<Offer> offers;
    offers.reserve(candidates.size());
    for (size_t c = 0; c < candidates.size(); ++c) {
      offers.push_back(
          {result_.similarity[candidates[c]] - product[c], candidates[c], room[nearest[c]], product[c]});
    }
    std::sort(offers.begin(), offers.end(), [](const Offer& a, const Offer& b) {
      return std::make_pair(a.loss, a.row) < std::make_pair(b.loss, b.row);
    });
    return offers;
  }

  const RowView rows_;
  ClusterResult& result_;
  const int64_t capacity_;
  const int threads_;
  std::vector<int64_t> size_;
};

}  // namespace

void LimitSubspaces(const RowView& rows, int64_t capacity, int threads, ClusterResult* result) {
  if (capacity * result->centroids.rows >= rows.count) Limiter(rows, capacity, threads, result).Run();
}

void MergeSmallSubspaces(const RowView& rows, int64_t min_size, ClusterResult* result) {
  if (result->centroids.rows > 0) Merger(rows, result, min_size).Run();
}

void SplitLargeSubspaces(const RowView& rows, int64_t min_size, int64_t max_size, ClusterResult* result) {
  if (max_size > 0) Splitter(rows, result, min_size, max_size).Run();
}

void BalanceSubspaces(const RowView& rows, const SizeBounds& bounds, int threads, ClusterResult* result) {
  if (bounds.balance > 0) {
    LimitSubspaces(rows,
                   static_cast<int64_t>(std::ceil(bounds.balance * static_cast<double>(rows.count) /
                                                  static_cast<double>(result->centroids.rows))),
                   threads, result);
  }
  MergeSmallSubspaces(rows, bounds.min_size, result);
  SplitLargeSubspaces(rows, bounds.min_size, bounds.max_size, result);
}

}  // namespace doppel
