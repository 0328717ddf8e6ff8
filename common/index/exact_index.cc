#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/executor.h"
#include "common/index/score_blocks.h"
#include "common/index/vector_index.h"

namespace doppel {
namespace {

// Candidates beyond k, so that rounding within the products does not decide who is among the k best.
constexpr int kSpare = 16;
constexpr int64_t kRowsPerTask = 32;

struct Candidate {
  float score;
  int64_t id;
};

bool Better(const Candidate& a, const Candidate& b) {
  return a.score > b.score || (a.score == b.score && a.id < b.id);
}

// The best `capacity` of what was offered, in order of ids.
class BestCandidates {
 public:
  void SetCapacity(size_t capacity) { capacity_ = capacity; }

  void Offer(absl::Span<const float> scores, int64_t first_id) {
    for (size_t i = 0; i < scores.size(); ++i) {
      // Later ids lose ties, so only what is truly greater gets in.
      if (!(scores[i] > worst_)) continue;
      Add({scores[i], first_id + static_cast<int64_t>(i)});
    }
  }
  std::vector<Candidate>& candidates() { return heap_; }

 private:
  void Add(const Candidate& candidate) {
    if (heap_.size() == capacity_) {
      std::pop_heap(heap_.begin(), heap_.end(), Better);
      heap_.back() = candidate;
    } else {
      heap_.push_back(candidate);
    }
    std::push_heap(heap_.begin(), heap_.end(), Better);
    if (heap_.size() == capacity_) worst_ = heap_.front().score;
  }

  size_t capacity_ = 0;
  float worst_ = -std::numeric_limits<float>::infinity();
  std::vector<Candidate> heap_;  // the worst in front
};

float InnerProduct(const float* a, const float* b, int dimension) {
  double sum = 0;
  for (int i = 0; i < dimension; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return static_cast<float>(sum);
}

class ExactIndex : public VectorIndex {
 public:
  ExactIndex(absl::Span<const float> vectors, int dimension, int threads)
      : vectors_(vectors), dimension_(dimension), threads_(threads) {}

  int64_t size() const override { return static_cast<int64_t>(vectors_.size()) / dimension_; }
  int dimension() const override { return dimension_; }

  absl::StatusOr<SearchResult> Search(absl::Span<const float> queries, int k) const override {
    if (k < 1 || queries.size() % dimension_ != 0) {
      return absl::InvalidArgumentError(absl::StrCat("search for ", k, " neighbours of queries of ",
                                                     queries.size(), " floats in an index of dimension ",
                                                     dimension_));
    }
    SearchResult result;
    result.queries = static_cast<int64_t>(queries.size()) / dimension_;
    result.k = k;
    result.ids.assign(static_cast<size_t>(result.queries * k), -1);
    result.scores.assign(result.ids.size(), -std::numeric_limits<float>::infinity());
    std::vector<BestCandidates> best;
    ForEachScoreBlock(queries, vectors_, dimension_, [&](const ScoreBlock& block) {
      if (block.first_vector == 0) {
        best.assign(block.queries, BestCandidates());
        for (BestCandidates& row : best) row.SetCapacity(static_cast<size_t>(k) + kSpare);
      }
      const bool last = block.first_vector + block.vectors == size();
      ParallelFor(block.queries, kRowsPerTask, threads_, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          best[row].Offer(block.row(row), block.first_vector);
          if (last) Finish(queries, block.first_query + row, best[row].candidates(), &result);
        }
      });
    });
    return result;
  }

 private:
  void Finish(absl::Span<const float> queries, int64_t query, std::vector<Candidate>& candidates,
              SearchResult* result) const {
    for (Candidate& candidate : candidates) {
      candidate.score =
          InnerProduct(&queries[query * dimension_], &vectors_[candidate.id * dimension_], dimension_);
    }
    std::sort(candidates.begin(), candidates.end(), Better);
    const size_t kept = std::min(candidates.size(), static_cast<size_t>(result->k));
    for (size_t i = 0; i < kept; ++i) {
      result->ids[query * result->k + i] = candidates[i].id;
      result->scores[query * result->k + i] = candidates[i].score;
    }
  }

  const absl::Span<const float> vectors_;
  const int dimension_;
  const int threads_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<VectorIndex>> MakeExactIndex(absl::Span<const float> vectors, int dimension,
                                                            int threads) {
  if (dimension < 1 || vectors.size() % dimension != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("an index of dimension ", dimension, " over ", vectors.size(), " floats"));
  }
  return std::unique_ptr<VectorIndex>(std::make_unique<ExactIndex>(vectors, dimension, threads));
}

}  // namespace doppel
