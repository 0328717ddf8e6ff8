#include "trainer/eval/lfw.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace doppel {
namespace {

constexpr double kAccuracyStep = 0.01;
constexpr double kValStep = 0.001;
constexpr double kGridEnd = 4;  // the largest squared distance of unit vectors

// How many pairs of each kind are accepted at every threshold of a grid.
class AcceptedPairs {
 public:
  AcceptedPairs(double step, int points) : step_(step), same_(points), different_(points) {}

  void Add(double distance, bool same) {
    ++(same ? all_same_ : all_different_);
    // The first threshold above the distance; the grid's values are step * i, rounded as they are.
    auto i = static_cast<int64_t>(std::max(std::floor(distance / step_) - 1, 0.0));
    const auto points = static_cast<int64_t>(same_.size());
    while (i < points && !(distance < threshold(i))) ++i;
    if (i < points) ++(same ? same_ : different_)[i];
  }
  void Accumulate() {
    for (size_t i = 1; i < same_.size(); ++i) {
      same_[i] += same_[i - 1];
      different_[i] += different_[i - 1];
    }
  }
  void Subtract(const AcceptedPairs& other) {
    all_same_ -= other.all_same_;
    all_different_ -= other.all_different_;
    for (size_t i = 0; i < same_.size(); ++i) {
      same_[i] -= other.same_[i];
      different_[i] -= other.different_[i];
    }
  }

  double threshold(int64_t i) const { return step_ * static_cast<double>(i); }
  int64_t points() const { return static_cast<int64_t>(same_.size()); }
  int64_t Correct(int64_t i) const { return same_[i] + all_different_ - different_[i]; }
  double Far(int64_t i) const {
    return all_different_ == 0 ? 0 : static_cast<double>(different_[i]) / static_cast<double>(all_different_);
  }

 private:
  const double step_;
  std::vector<int64_t> same_;
  std::vector<int64_t> different_;
  int64_t all_same_ = 0;
  int64_t all_different_ = 0;
};

struct Fold {
  int64_t begin = 0;
  int64_t end = 0;
};

std::vector<Fold> Folds(int64_t n, int folds) {
  std::vector<Fold> all(folds);
  int64_t begin = 0;
  for (int i = 0; i < folds; ++i) {
    all[i] = {begin, begin + n / folds + (i < n % folds ? 1 : 0)};
    begin = all[i].end;
  }
  return all;
}

double Mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

double SquaresAround(const std::vector<double>& values, double mean) {
  double sum = 0;
  for (const double value : values) sum += (value - mean) * (value - mean);
  return sum;
}

double PopulationDeviation(const std::vector<double>& values) {
  return values.empty() ? 0
                        : std::sqrt(SquaresAround(values, Mean(values)) / static_cast<double>(values.size()));
}

class LfwFolds {
 public:
  LfwFolds(absl::Span<const double> distances, const std::vector<bool>& same, int folds)
      : distances_(distances), same_(same), folds_(Folds(static_cast<int64_t>(same.size()), folds)) {}

  void Accuracy(LfwReport* report) const {
    ForEachFold(kAccuracyStep, [&](const Fold& fold, const AcceptedPairs& rest) {
      int64_t best = 0;
      for (int64_t i = 1; i < rest.points(); ++i) {
        if (rest.Correct(i) > rest.Correct(best)) best = i;
      }
      const double threshold = rest.threshold(best);
      int64_t correct = 0;
      for (int64_t i = fold.begin; i < fold.end; ++i)
        correct += (distances_[i] < threshold) == same_[i] ? 1 : 0;
      report->fold_threshold.push_back(threshold);
      report->fold_accuracy.push_back(static_cast<double>(correct) /
                                      static_cast<double>(fold.end - fold.begin));
    });
    const auto n = static_cast<double>(report->fold_accuracy.size());
    report->accuracy = Mean(report->fold_accuracy);
    report->deviation = PopulationDeviation(report->fold_accuracy);
    report->standard_error = std::sqrt(SquaresAround(report->fold_accuracy, report->accuracy) / (n - 1) / n);
  }

  void Validation(double target, LfwReport* report) const {
    std::vector<double> val;
    std::vector<double> far;
    ForEachFold(kValStep, [&](const Fold& fold, const AcceptedPairs& rest) {
      const double threshold = ThresholdAt(rest, target);
      int64_t count[2] = {0, 0};
      int64_t accepted[2] = {0, 0};
      for (int64_t i = fold.begin; i < fold.end; ++i) {
        ++count[same_[i] ? 1 : 0];
        accepted[same_[i] ? 1 : 0] += distances_[i] < threshold ? 1 : 0;
      }
      if (count[1] > 0) val.push_back(static_cast<double>(accepted[1]) / static_cast<double>(count[1]));
      if (count[0] > 0) far.push_back(static_cast<double>(accepted[0]) / static_cast<double>(count[0]));
    });
    report->far_target = target;
    report->val = Mean(val);
    report->val_deviation = PopulationDeviation(val);
    report->val_far = Mean(far);
  }

 private:
  template <typename Body>
  void ForEachFold(double step, const Body& body) const {
    const int points = static_cast<int>(std::lround(kGridEnd / step));
    AcceptedPairs all(step, points);
    Count({0, static_cast<int64_t>(same_.size())}, &all);
    for (const Fold& fold : folds_) {
      AcceptedPairs own(step, points);
      Count(fold, &own);
      AcceptedPairs rest = all;
      rest.Subtract(own);
      body(fold, rest);
    }
  }

  void Count(const Fold& fold, AcceptedPairs* accepted) const {
    for (int64_t i = fold.begin; i < fold.end; ++i) accepted->Add(distances_[i], same_[i]);
    accepted->Accumulate();
  }

  static double ThresholdAt(const AcceptedPairs& rest, double target) {
    const int64_t last = rest.points() - 1;
    if (rest.Far(last) < target) return 0;
    int64_t a = last;  // FAR never falls with the threshold
    while (a > 0 && rest.Far(a) > target) --a;
    if (a == last || rest.Far(a) > target) return rest.threshold(a);
    const double share = (target - rest.Far(a)) / (rest.Far(a + 1) - rest.Far(a));
    return rest.threshold(a) + share * (rest.threshold(a + 1) - rest.threshold(a));
  }

  const absl::Span<const double> distances_;
  const std::vector<bool>& same_;
  const std::vector<Fold> folds_;
};

}  // namespace

absl::StatusOr<LfwReport> EvaluateLfw(absl::Span<const double> squared_distances,
                                      const std::vector<bool>& same, int folds, double far_target) {
  if (squared_distances.size() != same.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(squared_distances.size(), " distances of ", same.size(), " pairs"));
  }
  if (folds < 2 || same.size() < static_cast<size_t>(folds)) {
    return absl::InvalidArgumentError(
        absl::StrCat(same.size(), " pairs in ", folds, " folds: at least two folds, and a pair in each"));
  }
  if (!(far_target > 0 && far_target < 1)) {
    return absl::InvalidArgumentError(absl::StrCat("VAL at FAR = ", far_target, ": FAR is between 0 and 1"));
  }
  LfwReport report;
  report.pairs = static_cast<int64_t>(same.size());
  report.same = std::count(same.begin(), same.end(), true);
  report.different = report.pairs - report.same;
  const LfwFolds evaluation(squared_distances, same, folds);
  evaluation.Accuracy(&report);
  evaluation.Validation(far_target, &report);
  return report;
}

std::vector<double> SquaredDistances(const EvalData& data, absl::Span<const LabelledPair> pairs) {
  std::vector<double> distances;
  distances.reserve(pairs.size());
  for (const LabelledPair& pair : pairs) {
    const float* a = data.row(pair.first);
    const float* b = data.row(pair.second);
    double sum = 0;
    for (int d = 0; d < data.dimension; ++d) {
      const double difference = static_cast<double>(a[d]) - static_cast<double>(b[d]);
      sum += difference * difference;
    }
    distances.push_back(sum);
  }
  return distances;
}

}  // namespace doppel
