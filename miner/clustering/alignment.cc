#include "miner/clustering/alignment.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <numeric>
#include <queue>
#include <utility>

namespace doppel {
namespace {

struct Overlap {
  int32_t from;  // new subspace
  int32_t to;    // previous subspace
  int64_t count;
};

// In the order of (from, to).
std::vector<Overlap> CountOverlaps(absl::Span<const int32_t> a, absl::Span<const int32_t> b) {
  const size_t n = std::min(a.size(), b.size());
  std::vector<uint64_t> pairs;
  pairs.reserve(n);
  for (size_t i = 0; i < n; ++i) {
    if (a[i] >= 0 && b[i] >= 0) {
      pairs.push_back(uint64_t{static_cast<uint32_t>(a[i])} << 32 | static_cast<uint32_t>(b[i]));
    }
  }
  std::sort(pairs.begin(), pairs.end());
  std::vector<Overlap> overlaps;
  for (uint64_t pair : pairs) {
    const auto from = static_cast<int32_t>(pair >> 32);
    const auto to = static_cast<int32_t>(pair & 0xffffffff);
    if (overlaps.empty() || overlaps.back().from != from || overlaps.back().to != to) {
      overlaps.push_back({from, to, 0});
    }
    ++overlaps.back().count;
  }
  return overlaps;
}

// Keeps what is among the `most` largest overlaps of its new subspace.
std::vector<Overlap> KeepLargest(const std::vector<Overlap>& overlaps, size_t most) {
  std::vector<Overlap> kept;
  kept.reserve(overlaps.size());
  for (size_t begin = 0, end = 0; begin < overlaps.size(); begin = end) {
    while (end < overlaps.size() && overlaps[end].from == overlaps[begin].from) ++end;
    std::vector<Overlap> group(overlaps.begin() + begin, overlaps.begin() + end);
    std::stable_sort(group.begin(), group.end(),
                     [](const Overlap& a, const Overlap& b) { return a.count > b.count; });
    group.resize(std::min(group.size(), most));
    kept.insert(kept.end(), group.begin(), group.end());
  }
  return kept;
}

// Maximum weight matching, one new subspace after the other. Prices keep every overlap's reduced cost
// price_from + price_to - count ≥ 0, so that Dijkstra finds the exchange of least loss; a path may end at a
// previous subspace that is free or at a new one that is left without.
class Matcher {
 public:
  Matcher(const std::vector<Overlap>& overlaps, int32_t from_count, int32_t to_count)
      : edges_(overlaps),
        begin_(from_count + 1, 0),
        match_from_(from_count, -1),
        match_to_(to_count, -1),
        price_from_(from_count, 0),
        price_to_(to_count, 0),
        distance_(to_count, kFar),
        previous_(to_count, -1) {
    for (const Overlap& edge : edges_) {
      ++begin_[edge.from + 1];
      price_from_[edge.from] = std::max(price_from_[edge.from], edge.count);
    }
    std::partial_sum(begin_.begin(), begin_.end(), begin_.begin());
  }

  std::vector<int32_t> Run() {
    for (size_t from = 0; from < match_from_.size(); ++from) Augment(static_cast<int32_t>(from));
    return std::move(match_from_);
  }

 private:
  static constexpr int64_t kFar = std::numeric_limits<int64_t>::max();

  void Augment(int32_t root) {
    // The best end so far: a free previous subspace, or (end_to_ < 0) new subspace end_from_ left without.
    int64_t best = price_from_[root];
    int32_t end_from = root, end_to = -1;
    std::vector<std::pair<int32_t, int64_t>> reached_from = {{root, 0}};
    std::vector<int32_t> touched, settled;
    using Entry = std::pair<int64_t, int32_t>;
    std::priority_queue<Entry, std::vector<Entry>, std::greater<Entry>> queue;
    const auto relax = [&](int32_t from, int64_t base) {
      for (int64_t e = begin_[from]; e < begin_[from + 1]; ++e) {
        const Overlap& edge = edges_[e];
        if (edge.to == match_from_[from]) continue;
        const int64_t distance = base + price_from_[from] + price_to_[edge.to] - edge.count;
        if (distance >= best || distance >= distance_[edge.to]) continue;
        if (distance_[edge.to] == kFar) touched.push_back(edge.to);
        distance_[edge.to] = distance;
        previous_[edge.to] = from;
        queue.emplace(distance, edge.to);
      }
    };
    relax(root, 0);
    while (!queue.empty() && queue.top().first < best) {
      const auto [distance, to] = queue.top();
      queue.pop();
      if (distance > distance_[to]) continue;
      settled.push_back(to);
      if (match_to_[to] < 0) {
        // Its price is 0: a free previous subspace was never bid for.
        best = distance;
        end_from = previous_[to];
        end_to = to;
        break;
      }
      const int32_t next = match_to_[to];  // a matched overlap has reduced cost 0
      reached_from.emplace_back(next, distance);
      if (distance + price_from_[next] < best) {
        best = distance + price_from_[next];
        end_from = next;
        end_to = -1;
      }
      relax(next, distance);
    }
    for (const auto& [from, distance] : reached_from) {
      if (distance < best) price_from_[from] -= best - distance;
    }
    for (int32_t to : settled) {
      if (distance_[to] < best) price_to_[to] += best - distance_[to];
    }
    Exchange(root, end_from, end_to);
    for (int32_t to : touched) distance_[to] = kFar;
  }

  // From the end of the path back to its root: everyone takes what the next one gives up.
  void Exchange(int32_t root, int32_t from, int32_t to) {
    while (true) {
      const int32_t given_up = match_from_[from];
      match_from_[from] = to;
      if (to >= 0) match_to_[to] = from;
      if (from == root) return;
      to = given_up;
      from = previous_[to];
    }
  }

  const std::vector<Overlap>& edges_;
  std::vector<int64_t> begin_;  // edges of a new subspace
  std::vector<int32_t> match_from_, match_to_;
  std::vector<int64_t> price_from_, price_to_;
  std::vector<int64_t> distance_;  // scratch of one search
  std::vector<int32_t> previous_;
};

double Entropy(const std::vector<int64_t>& counts, double total) {
  double entropy = 0;
  for (int64_t count : counts) {
    if (count > 0) entropy -= count / total * std::log(count / total);
  }
  return entropy;
}

}  // namespace

SubspaceAlignment AlignSubspaces(absl::Span<const int32_t> previous, int32_t previous_subspaces,
                                 absl::Span<const int32_t> assignment, int32_t subspaces) {
  SubspaceAlignment alignment;
  const std::vector<Overlap> overlaps = CountOverlaps(assignment, previous);
  const bool exact = subspaces <= kExactAlignment && previous_subspaces <= kExactAlignment;
  const std::vector<Overlap> edges = exact ? overlaps : KeepLargest(overlaps, 16);
  alignment.continues = Matcher(edges, subspaces, previous_subspaces).Run();
  for (const Overlap& overlap : overlaps) {
    alignment.compared += overlap.count;
    if (alignment.continues[overlap.from] == overlap.to) alignment.kept += overlap.count;
  }
  std::vector<bool> taken(subspaces, false);
  alignment.number.assign(subspaces, -1);
  for (int32_t s = 0; s < subspaces; ++s) {
    const int32_t before = alignment.continues[s];
    if (before < 0 || before >= subspaces) continue;
    alignment.number[s] = before;
    taken[before] = true;
  }
  int32_t next = 0;
  for (int32_t& number : alignment.number) {
    if (number >= 0) continue;
    while (taken[next]) ++next;
    number = next++;
  }
  return alignment;
}

void Renumber(const SubspaceAlignment& alignment, ClusterResult& result) {
  Matrix centroids{result.centroids.rows, result.centroids.dimension, {}};
  centroids.values.resize(result.centroids.values.size());
  for (int64_t s = 0; s < centroids.rows; ++s) {
    std::copy_n(result.centroids.row(s), centroids.dimension, centroids.row(alignment.number[s]));
  }
  result.centroids = std::move(centroids);
  for (int32_t& subspace : result.assignment) subspace = alignment.number[subspace];
}

double NormalizedMutualInformation(absl::Span<const int32_t> a, absl::Span<const int32_t> b) {
  const std::vector<Overlap> overlaps = CountOverlaps(a, b);
  if (overlaps.empty()) return 0;
  std::vector<int64_t> of_a, of_b;
  int64_t rows = 0;
  for (const Overlap& overlap : overlaps) {
    if (overlap.from >= static_cast<int64_t>(of_a.size())) of_a.resize(overlap.from + 1, 0);
    if (overlap.to >= static_cast<int64_t>(of_b.size())) of_b.resize(overlap.to + 1, 0);
    of_a[overlap.from] += overlap.count;
    of_b[overlap.to] += overlap.count;
    rows += overlap.count;
  }
  const auto total = static_cast<double>(rows);
  double mutual = 0;
  for (const Overlap& overlap : overlaps) {
    mutual += overlap.count / total *
              std::log(overlap.count * total / (static_cast<double>(of_a[overlap.from]) * of_b[overlap.to]));
  }
  const double entropies = Entropy(of_a, total) + Entropy(of_b, total);
  if (entropies == 0) return 1;
  return std::max(0.0, std::min(1.0, 2 * mutual / entropies));
}

}  // namespace doppel
