#include "miner/cleaning/calibration.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace doppel {
namespace {

constexpr int64_t kFewestPositives = 20;
constexpr int kNewtonSteps = 25;
constexpr double kRidge = 1e-3;  // per positive's weight: keeps separable data finite
constexpr double kRowsPerBin = 10;
// Further out the examples, made of what is clean, and the real ones differ too much to be compared.
constexpr double kSmallestTail = 0.3;

struct Standardizer {
  std::vector<double> mean, scale;
};

Standardizer FitStandardizer(const Evidence& a, const Evidence& b) {
  Standardizer s{std::vector<double>(a.features), std::vector<double>(a.features)};
  const double n = static_cast<double>(a.rows() + b.rows());
  for (const Evidence* e : {&a, &b}) {
    for (size_t i = 0; i < e->values.size(); ++i) s.mean[i % e->features] += e->values[i] / n;
  }
  for (const Evidence* e : {&a, &b}) {
    for (size_t i = 0; i < e->values.size(); ++i) {
      const double difference = e->values[i] - s.mean[i % e->features];
      s.scale[i % e->features] += difference * difference / n;
    }
  }
  for (double& scale : s.scale) scale = scale > 1e-18 ? 1 / std::sqrt(scale) : 0;
  return s;
}

// In place; a is symmetric and positive definite, row-major [n, n]. Cholesky.
std::vector<double> SolveSymmetric(std::vector<double> a, std::vector<double> b) {
  const int n = static_cast<int>(b.size());
  for (int j = 0; j < n; ++j) {
    for (int k = 0; k < j; ++k) a[j * n + j] -= a[j * n + k] * a[j * n + k];
    a[j * n + j] = std::sqrt(std::max(a[j * n + j], 1e-12));
    for (int i = j + 1; i < n; ++i) {
      for (int k = 0; k < j; ++k) a[i * n + j] -= a[i * n + k] * a[j * n + k];
      a[i * n + j] /= a[j * n + j];
    }
  }
  for (int i = 0; i < n; ++i) {
    for (int k = 0; k < i; ++k) b[i] -= a[i * n + k] * b[k];
    b[i] /= a[i * n + i];
  }
  for (int i = n - 1; i >= 0; --i) {
    for (int k = i + 1; k < n; ++k) b[i] -= a[k * n + i] * b[k];
    b[i] /= a[i * n + i];
  }
  return b;
}

class LogisticRegression {
 public:
  LogisticRegression(const Evidence& positives, const Evidence& rows)
      : features_(positives.features),
        standardizer_(FitStandardizer(positives, rows)),
        weights_(features_ + 1) {
    const double pull = kRidge;
    for (int step = 0; step < kNewtonSteps; ++step) {
      const int n = features_ + 1;
      std::vector<double> hessian(n * n), gradient(n);
      // Both sides weigh the same, whatever their sizes.
      Accumulate(positives, 1, hessian, gradient);
      Accumulate(rows, 0, hessian, gradient);
      for (int i = 0; i < n; ++i) {
        hessian[i * n + i] += pull;
        gradient[i] -= pull * weights_[i];
      }
      const std::vector<double> change = SolveSymmetric(std::move(hessian), std::move(gradient));
      double largest = 0;
      for (int i = 0; i < n; ++i) {
        weights_[i] += change[i];
        largest = std::max(largest, std::abs(change[i]));
      }
      if (largest < 1e-8) break;
    }
  }

  std::vector<double> Scores(const Evidence& evidence) const {
    std::vector<double> scores(evidence.rows()), x(features_ + 1);
    for (int64_t i = 0; i < evidence.rows(); ++i) scores[i] = Score(evidence, i, x);
    return scores;
  }

 private:
  double Score(const Evidence& evidence, int64_t i, std::vector<double>& x) const {
    double sum = weights_[features_];
    x[features_] = 1;
    for (int f = 0; f < features_; ++f) {
      x[f] = (evidence.values[i * features_ + f] - standardizer_.mean[f]) * standardizer_.scale[f];
      sum += weights_[f] * x[f];
    }
    return sum;
  }

  void Accumulate(const Evidence& evidence, double target, std::vector<double>& hessian,
                  std::vector<double>& gradient) const {
    const int n = features_ + 1;
    const double weight = 1 / static_cast<double>(evidence.rows());
    std::vector<double> x(n);
    for (int64_t r = 0; r < evidence.rows(); ++r) {
      const double p = 1 / (1 + std::exp(-Score(evidence, r, x)));
      const double curvature = weight * std::max(p * (1 - p), 1e-9);
      for (int i = 0; i < n; ++i) {
        gradient[i] += weight * (target - p) * x[i];
        for (int j = 0; j < n; ++j) hessian[i * n + j] += curvature * x[i] * x[j];
      }
    }
  }

  const int features_;
  const Standardizer standardizer_;
  std::vector<double> weights_;  // features, then the constant
};

// Blocks of consecutive values pooled until their ratios numerator / denominator rise.
struct PooledBlock {
  double numerator = 0, denominator = 0;
  size_t end = 0;
};

std::vector<PooledBlock> PoolAscending(const std::vector<PooledBlock>& bins) {
  std::vector<PooledBlock> pooled;
  for (const PooledBlock& bin : bins) {
    pooled.push_back(bin);
    while (pooled.size() > 1) {
      const PooledBlock &low = pooled[pooled.size() - 2], &high = pooled.back();
      if (low.numerator * high.denominator < high.numerator * low.denominator) break;
      const PooledBlock both{low.numerator + high.numerator, low.denominator + high.denominator, high.end};
      pooled.pop_back();
      pooled.back() = both;
    }
  }
  return pooled;
}

std::vector<size_t> Descending(absl::Span<const double> values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] > values[b]; });
  return order;
}

// The least share of rows above a score over the share of positives above it.
double LeastTailRatio(const std::vector<double>& positives, const std::vector<double>& rows) {
  double least = 1;
  size_t above = 0;
  const double p = static_cast<double>(positives.size()), n = static_cast<double>(rows.size());
  for (size_t i = 0; i < positives.size(); ++i) {
    while (above < rows.size() && rows[above] >= positives[i]) ++above;
    const double tail = static_cast<double>(i + 1) / p;
    if (tail < kSmallestTail || i + 1 < static_cast<size_t>(kFewestPositives)) continue;
    // One deviation up, so that few rows do not pass for none.
    const double count = static_cast<double>(above);
    least = std::min(least, (count + std::sqrt(count) + 1) / n / tail);
  }
  return least;
}

}  // namespace

absl::StatusOr<CalibratedScores> CalibrateAgainstPositives(const Evidence& positives, const Evidence& rows) {
  if (rows.rows() == 0 || positives.features != rows.features) {
    return absl::InvalidArgumentError("calibration: no rows, or evidence of another kind");
  }
  if (positives.rows() < kFewestPositives) {
    return absl::FailedPreconditionError(
        absl::StrCat("calibration: ", positives.rows(), " examples, at least ", kFewestPositives,
                     " are needed: there are too few identities with enough samples"));
  }
  const LogisticRegression regression(positives, rows);
  CalibratedScores result;
  result.score = regression.Scores(rows);
  std::vector<double> known = regression.Scores(positives);
  std::sort(known.begin(), known.end(), std::greater<>());
  const std::vector<size_t> order = Descending(result.score);
  std::vector<double> sorted(order.size());
  for (size_t i = 0; i < order.size(); ++i) sorted[i] = result.score[order[i]];
  result.share = LeastTailRatio(known, sorted);

  // Bins of equal numbers of examples, from the top, each to hold ten positives among the rows if there are
  // so many; the last takes what is below all examples as well.
  const double per_known =
      result.share * static_cast<double>(rows.rows()) / static_cast<double>(known.size());
  const size_t per_bin = std::max(
      {size_t{5}, known.size() / 100,
       static_cast<size_t>(std::min(kRowsPerBin / per_known, static_cast<double>(known.size()) / 3))});
  std::vector<PooledBlock> bins;  // from the highest score down; numerators negated so that ratios rise
  size_t above = 0;
  for (size_t begin = 0; begin < known.size(); begin += per_bin) {
    const size_t end = std::min(begin + per_bin, known.size());
    const size_t before = above;
    while (above < sorted.size() && (sorted[above] >= known[end - 1] || end == known.size())) ++above;
    // An empty bin still counts, as a little less than one row.
    const double count = std::max(0.5, static_cast<double>(above - before));
    bins.push_back({-per_known * static_cast<double>(end - begin), count, above});
  }
  result.probability.assign(sorted.size(), 0);
  size_t begin = 0;
  for (const PooledBlock& block : PoolAscending(bins)) {
    const double p = std::min(1.0, -block.numerator / block.denominator);
    for (; begin < block.end; ++begin) result.probability[order[begin]] = p;
  }
  return result;
}

std::vector<double> ProbabilityBeyondTail(absl::Span<const double> values) {
  const size_t n = values.size();
  std::vector<double> probability(n, 0.0);
  if (n < static_cast<size_t>(kFewestPositives)) return probability;
  const std::vector<size_t> order = Descending(values);
  const double low = values[order[n / 2]], high = values[order[n / 20]];
  // Maximum likelihood of an exponential cut off at `high`: rate from the mean of the excesses by bisection.
  double sum = 0;
  size_t count = 0;
  for (size_t i = n / 20; i < n / 2; ++i, ++count) sum += values[order[i]] - low;
  const double width = high - low;
  if (width <= 0) return probability;
  const double mean = std::min(0.499, sum / static_cast<double>(count) / width);
  double least = 1e-3, most = 1e3;
  for (int i = 0; i < 60; ++i) {
    const double rate = std::sqrt(least * most);
    (1 / rate - 1 / std::expm1(rate) > mean ? least : most) = rate;
  }
  const double rate = std::sqrt(least * most) / width;
  // How many lie above the median, were all of them ordinary, from those that surely are.
  const double ordinary = static_cast<double>(count) / -std::expm1(-rate * width);
  std::vector<PooledBlock> bins;
  const size_t per_bin = std::max<size_t>(5, n / 2000);
  double upper = 0;  // expected above the last bin
  for (size_t begin = 0; begin < n / 2; begin += per_bin) {
    const size_t end = std::min(begin + per_bin, n / 2);
    const double expected = ordinary * std::exp(-rate * (values[order[end - 1]] - low));
    bins.push_back({expected - upper, static_cast<double>(end - begin), end});
    upper = expected;
  }
  size_t begin = 0;
  for (const PooledBlock& block : PoolAscending(bins)) {
    const double p = std::max(0.0, 1 - block.numerator / block.denominator);
    for (; begin < block.end; ++begin) probability[order[begin]] = p;
  }
  return probability;
}

double ThresholdForPrecision(absl::Span<const double> probabilities, double precision) {
  const std::vector<size_t> order = Descending(probabilities);
  double sum = 0, threshold = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < order.size(); ++i) {
    const double p = probabilities[order[i]];
    sum += p;
    const bool last_of_equals = i + 1 == order.size() || probabilities[order[i + 1]] < p;
    if (last_of_equals && p > 0 && sum >= precision * static_cast<double>(i + 1)) threshold = p;
  }
  return threshold;
}

double ExpectedPrecision(absl::Span<const double> probabilities, double threshold) {
  double sum = 0;
  int64_t count = 0;
  for (const double p : probabilities) {
    if (p < threshold) continue;
    sum += p;
    ++count;
  }
  return count == 0 ? 0 : sum / static_cast<double>(count);
}

}  // namespace doppel
