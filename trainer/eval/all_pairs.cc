#include "trainer/eval/all_pairs.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

namespace doppel {
namespace {

constexpr uint32_t kHalf = 1 << 16;
constexpr uint32_t kSignBit = 0x80000000;
constexpr uint8_t kNoSlot = 255;

// Unsigned numbers in the order of the floats.
uint32_t KeyOf(float value) {
  value += 0.0F;  // -0 is 0
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return (bits & kSignBit) != 0 ? ~bits : bits | kSignBit;
}

float ValueOf(uint32_t key) {
  const uint32_t bits = (key & kSignBit) != 0 ? key & ~kSignBit : ~key;
  float value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// Counts by half a key: [0] impostors, [1] genuine pairs.
struct Histogram {
  explicit Histogram(size_t parts) {
    for (auto& side : count) side.assign(parts * kHalf, 0);
  }
  void Add(const Histogram& other) {
    for (int side = 0; side < 2; ++side) {
      for (size_t i = 0; i < count[side].size(); ++i) count[side][i] += other.count[side][i];
    }
  }
  std::array<std::vector<uint64_t>, 2> count;
};

// A histogram for everyone who counts, summed up at the end.
class HistogramPool {
 public:
  explicit HistogramPool(size_t parts) : parts_(parts) {}

  std::unique_ptr<Histogram> Take() {
    absl::MutexLock lock(&mutex_);
    if (free_.empty()) return std::make_unique<Histogram>(parts_);
    std::unique_ptr<Histogram> taken = std::move(free_.back());
    free_.pop_back();
    return taken;
  }
  void Return(std::unique_ptr<Histogram> histogram) {
    absl::MutexLock lock(&mutex_);
    free_.push_back(std::move(histogram));
  }
  Histogram Sum() {
    absl::MutexLock lock(&mutex_);
    Histogram sum(parts_);
    for (const auto& histogram : free_) sum.Add(*histogram);
    return sum;
  }

 private:
  const size_t parts_;
  absl::Mutex mutex_;
  std::vector<std::unique_ptr<Histogram>> free_ ABSL_GUARDED_BY(mutex_);
};

using SlotTable = std::array<uint8_t, kHalf>;

// Counts the pairs by the upper half of their key, or, given slots, those in a slot's half by the lower one.
class PairCounter {
 public:
  PairCounter(const EvalData& gallery, const EvalData* queries, const RankingOptions& options)
      : gallery_(gallery),
        queries_(queries == nullptr ? gallery : *queries),
        self_(queries == nullptr),
        euclidean_(options.similarity == Similarity::kEuclidean) {
    tiles_.similarity = options.similarity;
    tiles_.threads = options.threads;
    tiles_.upper_triangle = self_;
    for (int64_t q = 0; euclidean_ && q < queries_.rows(); ++q) {
      const float* row = queries_.row(q);
      norms_.push_back(ExactScore(row, row, gallery.dimension, Similarity::kInnerProduct));
    }
  }

  Histogram UpperHalves() const {
    return Run(
        1, [](Histogram& histogram, int genuine, uint32_t key) { ++histogram.count[genuine][key / kHalf]; });
  }
  Histogram LowerHalves(const SlotTable& slots, size_t parts) const {
    return Run(parts, [&slots](Histogram& histogram, int genuine, uint32_t key) {
      const uint8_t slot = slots[key / kHalf];
      if (slot != kNoSlot) ++histogram.count[genuine][slot * kHalf + key % kHalf];
    });
  }

 private:
  template <typename Count>
  Histogram Run(size_t parts, const Count& count) const {
    HistogramPool pool(parts);
    ForEachScoreTile(queries_.vectors, gallery_.vectors, gallery_.dimension, tiles_,
                     [&](const ScoreTile& tile) {
                       std::unique_ptr<Histogram> histogram = pool.Take();
                       for (int64_t i = 0; i < tile.queries; ++i) CountRow(tile, i, count, *histogram);
                       pool.Return(std::move(histogram));
                     });
    return pool.Sum();
  }

  template <typename Count>
  void CountRow(const ScoreTile& tile, int64_t i, const Count& count, Histogram& histogram) const {
    const int64_t query = tile.first_query + i;
    const int64_t label = queries_.labels[query];
    const absl::Span<const double> scores = tile.row(i);
    const int64_t* labels = &gallery_.labels[tile.first_vector];
    const double norm = euclidean_ ? norms_[query] : 0;
    for (int64_t j = self_ ? std::max<int64_t>(query + 1 - tile.first_vector, 0) : 0; j < tile.vectors; ++j) {
      const double score = euclidean_ ? 2 * scores[j] - norm : scores[j];
      count(histogram, labels[j] == label ? 1 : 0, KeyOf(static_cast<float>(score)));
    }
  }

  const EvalData& gallery_;
  const EvalData& queries_;
  const bool self_;
  const bool euclidean_;
  ScoreTileOptions tiles_;
  std::vector<double> norms_;  // squared
};

uint64_t Total(const std::vector<uint64_t>& counts) {
  uint64_t sum = 0;
  for (const uint64_t count : counts) sum += count;
  return sum;
}

// Where the rank-th greatest impostor (from 0) of these counts lies; what lies above it is taken off `rank`
// and added to `genuine_above`.
uint32_t FindFromAbove(const Histogram& histogram, size_t part, uint64_t* rank, uint64_t* genuine_above) {
  const uint64_t* impostors = &histogram.count[0][part * kHalf];
  const uint64_t* genuine = &histogram.count[1][part * kHalf];
  uint32_t i = kHalf - 1;
  for (; i > 0 && *rank >= impostors[i]; --i) {
    *rank -= impostors[i];
    *genuine_above += genuine[i];
  }
  return i;
}

struct TargetSearch {
  double target = 0;
  uint64_t rank = 0;
  uint64_t genuine_above = 0;
  uint32_t upper = 0;
  bool everything = false;  // as many may be let in as there are
};

}  // namespace

absl::StatusOr<AllPairsReport> VerifyAllPairs(const EvalData& gallery, const EvalData* queries,
                                              absl::Span<const double> far_targets,
                                              const RankingOptions& options) {
  if (queries != nullptr && queries->dimension != gallery.dimension) {
    return absl::InvalidArgumentError(
        absl::StrCat("queries have dimension ", queries->dimension, ", the gallery ", gallery.dimension));
  }
  if (far_targets.size() >= kNoSlot) {
    return absl::InvalidArgumentError(absl::StrCat(far_targets.size(), " FAR targets: 254 at most"));
  }
  const PairCounter counter(gallery, queries, options);
  const Histogram upper = counter.UpperHalves();
  AllPairsReport report;
  report.impostors = Total(upper.count[0]);
  report.genuine = Total(upper.count[1]);
  std::vector<TargetSearch> searches;
  SlotTable slots;
  slots.fill(kNoSlot);
  uint8_t parts = 0;
  for (const double target : far_targets) {
    if (report.genuine == 0 || FarTargetRefused(target, report.impostors)) {
      report.tar.refused.push_back(target);
      continue;
    }
    TargetSearch search;
    search.target = target;
    search.rank = ImpostorsAllowed(target, report.impostors);
    search.everything = search.rank >= report.impostors;
    if (!search.everything) {
      search.upper = FindFromAbove(upper, 0, &search.rank, &search.genuine_above);
      if (slots[search.upper] == kNoSlot) slots[search.upper] = parts++;
    }
    searches.push_back(search);
  }
  const Histogram lower = parts == 0 ? Histogram(0) : counter.LowerHalves(slots, parts);
  for (TargetSearch& search : searches) {
    if (search.everything) {
      report.tar.points.push_back({search.target, 1, -std::numeric_limits<double>::infinity()});
      continue;
    }
    const uint32_t low = FindFromAbove(lower, slots[search.upper], &search.rank, &search.genuine_above);
    report.tar.points.push_back(
        {search.target, static_cast<double>(search.genuine_above) / static_cast<double>(report.genuine),
         ValueOf(search.upper * kHalf + low)});
  }
  return report;
}

}  // namespace doppel
