#include "miner/cleaning/duplicate_identities.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "common/base/executor.h"
#include "common/base/philox.h"
#include "common/base/status_macros.h"
#include "miner/cleaning/calibration.h"

namespace doppel {
namespace {

constexpr float kCopy = 0.9999f;
constexpr int kPlaceholderPairs = 8;
constexpr int64_t kMostImages = 64;  // of an identity that are looked at: the first ones
constexpr int64_t kMostExamples = 20000;
constexpr int kCopyBuckets = 4;
constexpr int kEvidence = 5;

// The images of one side.
struct Cloud {
  std::vector<const float*> rows;
  int64_t size() const { return static_cast<int64_t>(rows.size()); }
};

struct PairEvidence {
  std::array<double, kEvidence> values{};
  float centre = 0, cross = 0, within = 0;
  std::vector<std::pair<int, int>> copies;  // positions in the clouds
};

Cloud CloudOf(const EmbeddingSet& set, uint64_t identity) {
  Cloud cloud;
  const int64_t n = std::min(set.count(identity), kMostImages);
  cloud.rows.reserve(n);
  for (int64_t i = 0; i < n; ++i) cloud.rows.push_back(set.row(set.first[identity] + i));
  return cloud;
}

// Mean cosine of two different images, and mean over images of the best cosine with another one.
std::pair<double, double> Within(const Cloud& cloud, int dimension, double fallback) {
  const int64_t n = cloud.size();
  if (n < 2) return {fallback, fallback};
  double sum = 0, best_sum = 0;
  std::vector<float> best(n, -1.0f);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = i + 1; j < n; ++j) {
      const float s = Cosine(cloud.rows[i], cloud.rows[j], dimension);
      sum += s;
      best[i] = std::max(best[i], s);
      best[j] = std::max(best[j], s);
    }
  }
  for (const float b : best) best_sum += b;
  const auto count = static_cast<double>(n);
  return {2 * sum / (count * (count - 1)), best_sum / count};
}

double CentreCosine(const Cloud& a, const Cloud& b, double cross_mean, double within_a, double within_b) {
  // Of the means, from the means of the products.
  const auto n = static_cast<double>(a.size()), m = static_cast<double>(b.size());
  const double aa = (1 + (n - 1) * within_a) / n, bb = (1 + (m - 1) * within_b) / m;
  return cross_mean / std::sqrt(std::max(aa * bb, 1e-12));
}

PairEvidence Compare(const Cloud& a, const Cloud& b, int dimension) {
  PairEvidence evidence;
  std::vector<float> best_a(a.size(), -1.0f), best_b(b.size(), -1.0f);
  double sum = 0;
  for (int64_t i = 0; i < a.size(); ++i) {
    for (int64_t j = 0; j < b.size(); ++j) {
      const float s = Cosine(a.rows[i], b.rows[j], dimension);
      sum += s;
      best_a[i] = std::max(best_a[i], s);
      best_b[j] = std::max(best_b[j], s);
      if (s >= kCopy) evidence.copies.emplace_back(static_cast<int>(i), static_cast<int>(j));
    }
  }
  const auto n = static_cast<double>(a.size()), m = static_cast<double>(b.size());
  const double mean = sum / (n * m);
  double cross_a = 0, cross_b = 0;
  for (const float s : best_a) cross_a += s / n;
  for (const float s : best_b) cross_b += s / m;
  // A lone image has no spread: that of the other side stands for it.
  std::pair<double, double> within_a = Within(a, dimension, -2), within_b = Within(b, dimension, -2);
  if (within_a.first < -1) within_a = within_b;
  if (within_b.first < -1) within_b = within_a;
  if (within_a.first < -1) within_a = within_b = {mean, mean};
  const double within = (within_a.first + within_b.first) / 2;
  const double nearest_within = (within_a.second + within_b.second) / 2, cross = (cross_a + cross_b) / 2;
  const double centre = CentreCosine(a, b, mean, within_a.first, within_b.first);
  const double spread = std::max(1 - within, 1e-3);
  evidence.centre = static_cast<float>(centre);
  evidence.cross = static_cast<float>(cross);
  evidence.within = static_cast<float>(nearest_within);
  evidence.values = {-std::log(1.001 - centre), (mean - within) / spread, cross - nearest_within,
                     -std::log(1.001 - cross), std::log(spread)};
  return evidence;
}

struct Candidate {
  uint32_t first = 0, second = 0;
  int rank = 0;  // the better one of the two directions
};

std::vector<Candidate> Candidates(const IdentityNeighbours& neighbours,
                                  const std::vector<uint32_t>& present) {
  const int k = neighbours.neighbours;
  std::vector<Candidate> candidates;
  candidates.reserve(neighbours.rows.size());
  for (size_t i = 0; i < neighbours.rows.size(); ++i) {
    const uint32_t a = present[i / k], b = present[neighbours.rows[i]];
    candidates.push_back({std::min(a, b), std::max(a, b), static_cast<int>(i % k)});
  }
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& x, const Candidate& y) {
    return std::tie(x.first, x.second, x.rank) < std::tie(y.first, y.second, y.rank);
  });
  const auto same = [](const Candidate& x, const Candidate& y) {
    return x.first == y.first && x.second == y.second;
  };
  candidates.erase(std::unique(candidates.begin(), candidates.end(), same), candidates.end());
  return candidates;
}

// Identities split in two at random: what duplicates look like.
Evidence SplitExamples(const EmbeddingSet& set, uint64_t seed, int threads) {
  const Philox draw(seed);
  std::vector<std::pair<uint64_t, uint32_t>> usable;
  for (uint64_t i = 0; i < set.identities(); ++i) {
    if (set.count(i) >= 4) usable.emplace_back(draw.Bits(i), static_cast<uint32_t>(i));
  }
  std::sort(usable.begin(), usable.end());
  usable.resize(std::min<size_t>(usable.size(), kMostExamples));
  Evidence examples{kEvidence, std::vector<double>(usable.size() * kEvidence)};
  ParallelFor(static_cast<int64_t>(usable.size()), 64, threads, [&](int64_t begin, int64_t end) {
    for (int64_t e = begin; e < end; ++e) {
      Cloud all = CloudOf(set, usable[e].second), halves[2];
      for (int64_t i = all.size() - 1; i > 0; --i) {
        std::swap(all.rows[i], all.rows[draw.Below(i + 1, i, usable[e].second + uint64_t{1})]);
      }
      for (int64_t i = 0; i < all.size(); ++i) halves[i % 2].rows.push_back(all.rows[i]);
      const PairEvidence evidence = Compare(halves[0], halves[1], set.rows.dimension);
      std::copy(evidence.values.begin(), evidence.values.end(), examples.values.begin() + e * kEvidence);
    }
  });
  return examples;
}

// Which images of a pair count as copies: not those that more than kPlaceholderPairs candidates share.
std::vector<float> CopiedShares(const EmbeddingSet& set, const std::vector<Candidate>& candidates,
                                const std::vector<PairEvidence>& evidence) {
  std::vector<uint16_t> pairs_with(set.source.size());
  const auto count_image = [&](uint64_t row) {
    if (pairs_with[row] < UINT16_MAX) ++pairs_with[row];
  };
  const auto images = [&](size_t c, int side) {
    std::vector<uint64_t> rows;
    for (const auto& [i, j] : evidence[c].copies) {
      rows.push_back(side == 0 ? set.first[candidates[c].first] + i : set.first[candidates[c].second] + j);
    }
    std::sort(rows.begin(), rows.end());
    rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
    return rows;
  };
  for (size_t c = 0; c < candidates.size(); ++c) {
    for (int side = 0; side < 2; ++side) {
      for (const uint64_t row : images(c, side)) count_image(row);
    }
  }
  std::vector<float> shares(candidates.size());
  for (size_t c = 0; c < candidates.size(); ++c) {
    if (evidence[c].copies.empty()) continue;
    for (int side = 0; side < 2; ++side) {
      const uint64_t identity = side == 0 ? candidates[c].first : candidates[c].second;
      int64_t copies = 0;
      for (const uint64_t row : images(c, side)) copies += pairs_with[row] <= kPlaceholderPairs ? 1 : 0;
      const auto count = static_cast<float>(std::min(set.count(identity), kMostImages));
      shares[c] = std::max(shares[c], static_cast<float>(copies) / count);
    }
  }
  return shares;
}

int CopyBucket(float share) {
  return std::min(kCopyBuckets - 1, static_cast<int>(share * static_cast<float>(kCopyBuckets)));
}

// Per bucket of the copied share: the probability that copies are no accident. Accidents are what the
// farther half of the neighbours has.
std::array<double, kCopyBuckets> CopyProbabilities(const std::vector<Candidate>& candidates,
                                                   const std::vector<float>& shares, int neighbours) {
  std::array<double, kCopyBuckets> near{}, far{}, probability{};
  double all_near = 0, all_far = 0;
  for (size_t c = 0; c < candidates.size(); ++c) {
    const bool is_far = 2 * candidates[c].rank >= neighbours;
    (is_far ? all_far : all_near) += 1;
    if (shares[c] > 0) (is_far ? far : near)[CopyBucket(shares[c])] += 1;
  }
  double least = 0;
  for (int b = 0; b < kCopyBuckets; ++b) {
    const double accidents = (far[b] + 1) / (all_far + 1) * all_near;
    least = std::max(least, near[b] > 0 ? 1 - accidents / near[b] : 0.0);
    probability[b] = least;
  }
  return probability;
}

// The look-alikes of an identity that is no duplicate: what nearest neighbours are in excess of the second
// nearest ones, at the same score, is due to duplicates at most. Scores of the best rank 0 against those of
// rank 1, in bins from the top, as an upper bound of the probability that falls with the score.
void CapByRank(const std::vector<Candidate>& candidates, const std::vector<size_t>& rows,
               std::vector<DuplicateFinding>& findings) {
  std::vector<size_t> order = rows;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return findings[a].score != findings[b].score ? findings[a].score > findings[b].score : a < b;
  });
  constexpr double kLeast = 20;
  double cap = 1;
  for (size_t begin = 0, end = 0; begin < order.size(); begin = end) {
    double nearest = 0, second = 0;
    for (; end < order.size() && nearest < std::max(kLeast, static_cast<double>(begin) / 10); ++end) {
      nearest += candidates[order[end]].rank == 0 ? 1 : 0;
      second += candidates[order[end]].rank == 1 ? 1 : 0;
    }
    cap = std::min(cap, nearest > 0 ? std::max(0.0, 1 - second / nearest) : 0.0);
    for (size_t i = begin; i < end; ++i) {
      findings[order[i]].probability = std::min(findings[order[i]].probability, cap);
    }
  }
}

void SortFindings(std::vector<DuplicateFinding>& findings) {
  std::sort(findings.begin(), findings.end(), [](const DuplicateFinding& a, const DuplicateFinding& b) {
    if (a.score != b.score) return a.score > b.score;
    return std::tie(a.first, a.second) < std::tie(b.first, b.second);
  });
}

// Findings of pairs without copies by the calibrated scores, of those with copies above what their
// probability says.
absl::Status ScoreFindings(const std::vector<Candidate>& candidates, const Evidence& examples,
                           const std::vector<PairEvidence>& evidence, const std::vector<float>& copied,
                           const std::array<double, kCopyBuckets>& by_copies, DuplicateReport& report) {
  Evidence rows{kEvidence, {}};
  rows.values.reserve(evidence.size() * kEvidence);
  std::vector<size_t> without;
  for (size_t c = 0; c < evidence.size(); ++c) {
    if (copied[c] > 0) continue;
    without.push_back(c);
    rows.values.insert(rows.values.end(), evidence[c].values.begin(), evidence[c].values.end());
  }
  double highest = 0;
  if (!without.empty()) {
    absl::StatusOr<CalibratedScores> scores = CalibrateAgainstPositives(examples, rows);
    if (absl::IsFailedPrecondition(scores.status())) {
      report.calibrated = false;
    } else {
      RETURN_IF_ERROR(scores.status());
      report.share = scores->share;
    }
    for (size_t i = 0; i < without.size(); ++i) {
      DuplicateFinding& finding = report.findings[without[i]];
      finding.score = report.calibrated ? scores->score[i] : finding.centre_similarity;
      finding.probability = report.calibrated ? scores->probability[i] : 0;
      highest = std::max(highest, finding.score);
    }
    CapByRank(candidates, without, report.findings);
  }
  for (size_t c = 0; c < evidence.size(); ++c) {
    if (copied[c] <= 0) continue;
    DuplicateFinding& finding = report.findings[c];
    finding.probability = by_copies[CopyBucket(copied[c])];
    finding.score = highest * finding.probability + 10.0 * copied[c] + finding.centre_similarity;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<DuplicateReport> FindDuplicateIdentities(const EmbeddingSet& set,
                                                        const DuplicateOptions& options) {
  if (options.neighbours < 1) return absl::InvalidArgumentError("duplicates: neighbours must be at least 1");
  const int threads = options.threads > 0
                          ? options.threads
                          : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  std::vector<uint32_t> present;
  for (uint64_t i = 0; i < set.identities(); ++i) {
    if (set.count(i) > 0) present.push_back(static_cast<uint32_t>(i));
  }
  DuplicateReport report;
  if (present.size() < 2) return report;
  Matrix all = IdentityCentres(set);
  Matrix centres{static_cast<int64_t>(present.size()), all.dimension, {}};
  centres.values.reserve(present.size() * all.dimension);
  for (const uint32_t i : present)
    centres.values.insert(centres.values.end(), all.row(i), all.row(i) + all.dimension);
  NeighbourOptions nearest;
  nearest.neighbours = options.neighbours;
  nearest.threads = threads;
  nearest.on_progress = options.on_progress;
  ASSIGN_OR_RETURN(const IdentityNeighbours neighbours, FindIdentityNeighbours(centres, nearest));

  const std::vector<Candidate> candidates = Candidates(neighbours, present);
  std::vector<PairEvidence> evidence(candidates.size());
  ParallelFor(static_cast<int64_t>(candidates.size()), 256, threads, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      evidence[c] =
          Compare(CloudOf(set, candidates[c].first), CloudOf(set, candidates[c].second), set.rows.dimension);
    }
  });
  const std::vector<float> copied = CopiedShares(set, candidates, evidence);
  report.findings.reserve(candidates.size());
  for (size_t c = 0; c < candidates.size(); ++c) {
    report.findings.push_back({candidates[c].first, candidates[c].second, 0, 0, evidence[c].centre,
                               evidence[c].cross, evidence[c].within, copied[c]});
  }
  RETURN_IF_ERROR(ScoreFindings(candidates, SplitExamples(set, options.seed, threads), evidence, copied,
                                CopyProbabilities(candidates, copied, neighbours.neighbours), report));
  SortFindings(report.findings);
  return report;
}

DuplicateReport FindDuplicatesByCentres(const IdentityNeighbours& neighbours, uint64_t first_identity) {
  const size_t k = static_cast<size_t>(neighbours.neighbours);
  const size_t n = k == 0 ? 0 : neighbours.rows.size() / k;
  std::vector<double> nearest(n);
  for (size_t i = 0; i < n; ++i) nearest[i] = -std::log(1.0001 - neighbours.similarities[i * k]);
  const std::vector<double> probability = ProbabilityBeyondTail(nearest);
  DuplicateReport report;
  report.findings.reserve(n);
  for (size_t i = 0; i < n; ++i) {
    const auto a = static_cast<uint32_t>(first_identity + i);
    const auto b = static_cast<uint32_t>(first_identity + neighbours.rows[i * k]);
    // Nearest both ways: once is enough.
    if (neighbours.rows[neighbours.rows[i * k] * k] == i && b < a) continue;
    DuplicateFinding finding;
    finding.first = std::min(a, b);
    finding.second = std::max(a, b);
    finding.score = nearest[i];
    finding.probability = probability[i];
    finding.centre_similarity = neighbours.similarities[i * k];
    report.findings.push_back(finding);
  }
  for (const double p : probability) report.share += p / static_cast<double>(std::max<size_t>(n, 1));
  SortFindings(report.findings);
  return report;
}

}  // namespace doppel
