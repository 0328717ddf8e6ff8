#include "common/index/ivf_index.h"

#include <faiss/IndexFlat.h>
#include <faiss/IndexIVFFlat.h>
#include <faiss/impl/FaissAssert.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/index/exact_scores.h"

namespace doppel {
namespace {

constexpr int kIvfSpare = 16;            // candidates beyond k: sums are rounded otherwise within FAISS
constexpr int64_t kIvfQueries = 4096;    // at once: candidates are 12 bytes each
constexpr int kMostPointsPerList = 256;  // that train a centroid

// The setting belongs to the calling thread.
class IvfThreads {
 public:
  explicit IvfThreads(int threads) : before_(omp_get_max_threads()) {
    omp_set_num_threads(std::max(threads, 1));
  }
  ~IvfThreads() { omp_set_num_threads(before_); }
  IvfThreads(const IvfThreads&) = delete;
  IvfThreads& operator=(const IvfThreads&) = delete;

 private:
  const int before_;
};

class IvfIndex : public VectorIndex {
 public:
  IvfIndex(absl::Span<const float> vectors, int dimension, int lists, const IvfOptions& options)
      : vectors_(vectors),
        threads_(options.threads),
        quantizer_(dimension),
        index_(&quantizer_, dimension, lists, faiss::METRIC_INNER_PRODUCT) {
    const IvfThreads threads(threads_);
    index_.cp.seed = static_cast<int>(options.seed);
    index_.cp.max_points_per_centroid = kMostPointsPerList;
    index_.cp.min_points_per_centroid = 1;  // it would only complain
    index_.nprobe = static_cast<size_t>(std::clamp(options.probes, 1, lists));
    const auto n = static_cast<int64_t>(vectors.size()) / dimension;
    index_.train(n, vectors.data());
    index_.add(n, vectors.data());
  }

  int64_t size() const override { return index_.ntotal; }
  int dimension() const override { return index_.d; }

  absl::StatusOr<SearchResult> Search(absl::Span<const float> queries, int k) const override {
    if (k < 1 || queries.size() % dimension() != 0) {
      return absl::InvalidArgumentError(absl::StrCat("search for ", k, " neighbours of queries of ",
                                                     queries.size(), " floats in an index of dimension ",
                                                     dimension()));
    }
    SearchResult result;
    result.queries = static_cast<int64_t>(queries.size()) / dimension();
    result.k = k;
    try {
      result.ids.assign(static_cast<size_t>(result.queries * k), -1);
      result.scores.assign(result.ids.size(), -std::numeric_limits<float>::infinity());
      for (int64_t first = 0; first < result.queries; first += kIvfQueries) {
        Batch(queries, first, std::min(kIvfQueries, result.queries - first), &result);
      }
    } catch (const std::bad_alloc&) {
      return absl::ResourceExhaustedError(
          absl::StrCat("out of memory: search for ", k, " neighbours of ", result.queries, " queries"));
    } catch (const std::exception& e) {
      return absl::InternalError(absl::StrCat("search: FAISS: ", e.what()));
    }
    return result;
  }

 private:
  void Batch(absl::Span<const float> queries, int64_t first, int64_t n, SearchResult* result) const {
    const IvfThreads threads(threads_);
    const int64_t wanted = std::min<int64_t>(int64_t{result->k} + kIvfSpare, size());
    std::vector<float> rough(static_cast<size_t>(n * wanted));
    std::vector<faiss::Index::idx_t> ids(rough.size());
    index_.search(n, &queries[first * dimension()], wanted, rough.data(), ids.data());
    std::vector<std::pair<float, int64_t>> row;
    for (int64_t q = 0; q < n; ++q) {
      const float* query = &queries[(first + q) * dimension()];
      row.clear();
      for (int64_t i = q * wanted; i < (q + 1) * wanted && ids[i] >= 0; ++i) {
        const double score =
            ExactScore(query, &vectors_[ids[i] * dimension()], dimension(), Similarity::kInnerProduct);
        row.emplace_back(-static_cast<float>(score), ids[i]);
      }
      std::sort(row.begin(), row.end());
      const size_t kept = std::min(row.size(), static_cast<size_t>(result->k));
      for (size_t i = 0; i < kept; ++i) {
        result->ids[(first + q) * result->k + i] = row[i].second;
        result->scores[(first + q) * result->k + i] = -row[i].first;
      }
    }
  }

  const absl::Span<const float> vectors_;
  const int threads_;
  faiss::IndexFlatIP quantizer_;
  faiss::IndexIVFFlat index_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<VectorIndex>> MakeIvfIndex(absl::Span<const float> vectors, int dimension,
                                                          const IvfOptions& options) {
  if (dimension < 1 || vectors.size() % dimension != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("an index of dimension ", dimension, " over ", vectors.size(), " floats"));
  }
  const auto n = static_cast<int64_t>(vectors.size()) / dimension;
  const int64_t lists = options.lists > 0
                            ? options.lists
                            : std::clamp<int64_t>(std::llround(4 * std::sqrt(static_cast<double>(n))), 1, n);
  if (n == 0 || lists > n || options.probes < 1) {
    return absl::InvalidArgumentError(absl::StrCat("an inverted file of ", lists, " lists over ", n,
                                                   " vectors, visited with ", options.probes,
                                                   " probes: it needs 1 ≤ lists ≤ vectors and probes ≥ 1"));
  }
  try {
    return std::unique_ptr<VectorIndex>(
        std::make_unique<IvfIndex>(vectors, dimension, static_cast<int>(lists), options));
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrCat("out of memory: an inverted file over ", n, " vectors"));
  } catch (const std::exception& e) {
    return absl::InternalError(absl::StrCat("inverted file: FAISS: ", e.what()));
  }
}

}  // namespace doppel
