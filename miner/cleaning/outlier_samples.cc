#include "miner/cleaning/outlier_samples.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <thread>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "common/base/executor.h"
#include "common/base/philox.h"
#include "common/base/status_macros.h"
#include "common/index/ivf_index.h"
#include "miner/cleaning/calibration.h"

namespace doppel {
namespace {

constexpr int kFeatures = 5;
constexpr int kNearestCentres = 4;
constexpr size_t kManyCentres = 20000;
constexpr int64_t kMostForeign = 50000;
constexpr int64_t kQueriesAtOnce = 8192;

struct SampleEvidence {
  float own = 0, fellow = 0, other = 0;
  uint32_t nearest = 0;
  float tightness = 0;  // mean cosine of its identity's other images with their mean
};

std::array<double, kFeatures> Values(const SampleEvidence& e) {
  return {e.own, e.fellow, e.other, double{e.other} - std::max(e.own, e.fellow), e.tightness};
}

// Against the images of `identity` without the one in row `left_out`.
void CompareWithIdentity(const EmbeddingSet& set, const float* sample, uint64_t identity, uint64_t left_out,
                         SampleEvidence& evidence) {
  const int dimension = set.rows.dimension;
  std::vector<float> mean(dimension);
  float fellow = -1;
  for (uint64_t r = set.first[identity]; r < set.first[identity + 1]; ++r) {
    if (r == left_out) continue;
    const float* row = set.row(r);
    for (int d = 0; d < dimension; ++d) mean[d] += row[d];
    fellow = std::max(fellow, Cosine(sample, row, dimension));
  }
  const float length = std::sqrt(Cosine(mean.data(), mean.data(), dimension));
  const auto others = static_cast<float>(set.count(identity) - 1);
  evidence.own = length > 0 ? Cosine(sample, mean.data(), dimension) / length : 0;
  evidence.fellow = fellow;
  // The sum of unit vectors is as long as they agree; without the part that chance alone gives.
  const float agreement = length / others;
  evidence.tightness = others > 1 ? (agreement * agreement * others - 1) / (others - 1) : 0;
}

class NearestCentres {
 public:
  static absl::StatusOr<NearestCentres> Make(const EmbeddingSet& set, int threads) {
    NearestCentres nearest;
    const Matrix all = IdentityCentres(set);
    for (uint64_t i = 0; i < set.identities(); ++i) {
      if (set.count(i) > 0) nearest.identity_.push_back(static_cast<uint32_t>(i));
    }
    if (nearest.identity_.size() < 2) {
      return absl::InvalidArgumentError("mislabelled samples: at least two identities must have samples");
    }
    nearest.centres_ = std::make_unique<std::vector<float>>();
    nearest.centres_->reserve(nearest.identity_.size() * all.dimension);
    for (const uint32_t i : nearest.identity_) {
      nearest.centres_->insert(nearest.centres_->end(), all.row(i), all.row(i) + all.dimension);
    }
    if (nearest.identity_.size() < kManyCentres) {
      ASSIGN_OR_RETURN(nearest.index_, MakeExactIndex(*nearest.centres_, all.dimension, threads));
    } else {
      IvfOptions ivf;
      ivf.threads = threads;
      ASSIGN_OR_RETURN(nearest.index_, MakeIvfIndex(*nearest.centres_, all.dimension, ivf));
    }
    return nearest;
  }

  // For all rows of the set: [rows, kNearestCentres].
  absl::Status Search(const EmbeddingSet& set, const OutlierOptions& options) {
    const auto n = static_cast<int64_t>(set.source.size());
    ids_.reserve(n * kNearestCentres);
    scores_.reserve(n * kNearestCentres);
    for (int64_t begin = 0; begin < n; begin += kQueriesAtOnce) {
      if (options.on_progress && !options.on_progress(begin, n)) {
        return absl::CancelledError("mislabelled samples: cancelled");
      }
      const int64_t count = std::min(kQueriesAtOnce, n - begin);
      const absl::Span<const float> queries(set.rows.row(begin), count * set.rows.dimension);
      ASSIGN_OR_RETURN(const SearchResult found, index_->Search(queries, kNearestCentres));
      for (const int64_t id : found.ids) ids_.push_back(static_cast<int32_t>(id));
      scores_.insert(scores_.end(), found.scores.begin(), found.scores.end());
    }
    return absl::OkStatus();
  }

  // The best centre for a row that is neither identity's.
  std::pair<uint32_t, float> Best(uint64_t row, uint64_t but, uint64_t nor) const {
    for (int64_t i = static_cast<int64_t>(row) * kNearestCentres, j = 0; j < kNearestCentres; ++j) {
      if (ids_[i + j] < 0) break;
      const uint32_t identity = identity_[ids_[i + j]];
      if (identity != but && identity != nor) return {identity, scores_[i + j]};
    }
    return {identity_[identity_[0] == but ? 1 : 0], -1.0f};
  }

 private:
  std::vector<uint32_t> identity_;
  std::unique_ptr<std::vector<float>> centres_;
  std::unique_ptr<VectorIndex> index_;
  std::vector<int32_t> ids_;
  std::vector<float> scores_;
};

std::vector<uint32_t> IdentityOfRows(const EmbeddingSet& set) {
  std::vector<uint32_t> identities(set.source.size());
  for (uint64_t i = 0; i < set.identities(); ++i) {
    std::fill(identities.begin() + static_cast<int64_t>(set.first[i]),
              identities.begin() + static_cast<int64_t>(set.first[i + 1]), static_cast<uint32_t>(i));
  }
  return identities;
}

// Samples as they would look under identities drawn at random.
Evidence ForeignExamples(const EmbeddingSet& set, const NearestCentres& nearest,
                         const std::vector<uint32_t>& identity_of, uint64_t seed, int threads) {
  const Philox draw(seed);
  const auto rows = static_cast<uint64_t>(identity_of.size());
  const auto wanted = static_cast<int64_t>(std::min<uint64_t>(kMostForeign, rows));
  std::vector<std::array<double, kFeatures>> found(wanted);
  std::vector<char> good(wanted);
  ParallelFor(wanted, 256, threads, [&](int64_t begin, int64_t end) {
    for (int64_t e = begin; e < end; ++e) {
      const uint64_t row = draw.Below(rows, 2 * e);
      // The identity of a row drawn at random, of which that row is then left out: large ones are wrong more
      // often.
      const uint64_t place = draw.Below(rows, 2 * e + 1);
      const uint32_t truth = identity_of[row], label = identity_of[place];
      if (truth == label || set.count(truth) < 2 || set.count(label) < 2) continue;
      SampleEvidence evidence, at_home;
      CompareWithIdentity(set, set.row(row), label, place, evidence);
      CompareWithIdentity(set, set.row(row), truth, row, at_home);
      evidence.other = std::max(at_home.own, nearest.Best(row, truth, label).second);
      found[e] = Values(evidence);
      good[e] = 1;
    }
  });
  Evidence examples{kFeatures, {}};
  for (int64_t e = 0; e < wanted; ++e) {
    if (good[e] != 0) examples.values.insert(examples.values.end(), found[e].begin(), found[e].end());
  }
  return examples;
}

}  // namespace

absl::StatusOr<OutlierReport> FindOutlierSamples(const EmbeddingSet& set, const OutlierOptions& options) {
  const int threads = options.threads > 0
                          ? options.threads
                          : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  ASSIGN_OR_RETURN(NearestCentres nearest, NearestCentres::Make(set, threads));
  RETURN_IF_ERROR(nearest.Search(set, options));
  const std::vector<uint32_t> identity_of = IdentityOfRows(set);
  OutlierReport report;
  for (uint64_t r = 0; r < identity_of.size(); ++r) {
    if (set.count(identity_of[r]) < 2) continue;
    report.findings.push_back({});
    report.findings.back().row = r;
  }
  const auto n = static_cast<int64_t>(report.findings.size());
  if (n == 0) {
    report.calibrated = false;
    return report;
  }
  Evidence rows{kFeatures, std::vector<double>(n * kFeatures)};
  ParallelFor(n, 1024, threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      OutlierFinding& finding = report.findings[i];
      finding.identity = identity_of[finding.row];
      SampleEvidence evidence;
      CompareWithIdentity(set, set.row(finding.row), finding.identity, finding.row, evidence);
      std::tie(finding.nearest_identity, evidence.other) =
          nearest.Best(finding.row, finding.identity, finding.identity);
      finding.own_similarity = evidence.own;
      finding.fellow_similarity = evidence.fellow;
      finding.other_similarity = evidence.other;
      const std::array<double, kFeatures> values = Values(evidence);
      std::copy(values.begin(), values.end(), rows.values.begin() + i * kFeatures);
    }
  });
  const absl::StatusOr<CalibratedScores> scores =
      CalibrateAgainstPositives(ForeignExamples(set, nearest, identity_of, options.seed, threads), rows);
  report.calibrated = scores.ok();
  if (!scores.ok() && !absl::IsFailedPrecondition(scores.status())) return scores.status();
  report.share = report.calibrated ? scores->share : 0;
  for (int64_t i = 0; i < n; ++i) {
    OutlierFinding& finding = report.findings[i];
    finding.score = report.calibrated ? scores->score[i]
                                      : double{finding.other_similarity} -
                                            std::max(finding.own_similarity, finding.fellow_similarity);
    finding.probability = report.calibrated ? scores->probability[i] : 0;
  }
  std::sort(report.findings.begin(), report.findings.end(),
            [](const OutlierFinding& a, const OutlierFinding& b) {
              return a.score != b.score ? a.score > b.score : a.row < b.row;
            });
  return report;
}

}  // namespace doppel
