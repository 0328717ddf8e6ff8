#include "services/ctl/report/verdict.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "services/ctl/report/html.h"

namespace doppel::report {
namespace {

// Without the number of queries, differences below this count as none.
constexpr double kAssumedNoise = 0.005;

struct CommonEval {
  const EvalLine* control = nullptr;
  const EvalLine* other = nullptr;
};

// The last step that both were evaluated at; failing that, the last evaluations of each.
CommonEval FindCommon(const RunData& control, const RunData& other) {
  CommonEval common;
  for (const EvalLine& a : control.evals) {
    for (const EvalLine& b : other.evals) {
      if (a.step == b.step) common = {&a, &b};
    }
  }
  if (common.control == nullptr && !control.evals.empty() && !other.evals.empty()) {
    common = {&control.evals.back(), &other.evals.back()};
  }
  return common;
}

// Two standard errors of the difference of two shares of `queries` each.
double Noise(double a, double b, uint64_t queries) {
  if (queries == 0) return kAssumedNoise;
  return 2 * std::sqrt((a * (1 - a) + b * (1 - b)) / static_cast<double>(queries));
}

// ": better by 1.4 points."
std::string Judge(double control, double other, uint64_t queries) {
  const double difference = other - control, noise = Noise(control, other, queries);
  if (std::fabs(difference) <= noise) {
    return absl::StrFormat(": no difference to speak of (%+.2f points, and up to ±%.2f may be chance).",
                           difference * 100, noise * 100);
  }
  return absl::StrFormat(": %s by %.2f points (chance explains up to ±%.2f).",
                         difference > 0 ? "better" : "worse", std::fabs(difference) * 100, noise * 100);
}

void CompareAccuracy(const RunData& control, const RunData& other, std::vector<std::string>& out) {
  const CommonEval common = FindCommon(control, other);
  if (common.control == nullptr) {
    out.push_back(absl::StrCat("\"", other.name, "\" and \"", control.name,
                               "\" cannot be compared: they were not both evaluated."));
    return;
  }
  const EvalLine& a = *common.control;
  const EvalLine& b = *common.other;
  const std::string when = a.step == b.step
                               ? absl::StrCat("At step ", Number(b.step))
                               : absl::StrCat("After ", Number(b.step), " steps against ", Number(a.step),
                                              " (so this is no fair comparison)");
  if (a.rank1 && b.rank1) {
    out.push_back(absl::StrCat(when, ", \"", other.name, "\" finds the right identity first for ",
                               Percent(*b.rank1), " of the queries, \"", control.name, "\" for ",
                               Percent(*a.rank1), Judge(*a.rank1, *b.rank1, b.queries)));
  }
  for (const auto& [far, tar] : b.tar) {
    const auto found = a.tar.find(far);
    if (found == a.tar.end()) continue;
    out.push_back(absl::StrFormat(
        "At a false accept rate of %g, \"%s\" accepts %s of the genuine pairs, \"%s\" %s%s", far, other.name,
        Percent(tar), control.name, Percent(found->second), Judge(found->second, tar, b.queries)));
    break;  // the strictest says enough; the table has the others
  }
}

void CompareActive(const RunData& control, const RunData& other, std::vector<std::string>& out) {
  const auto a = MeanOf(control, &StepLine::active), b = MeanOf(other, &StepLine::active);
  if (!a || !b) return;
  std::string text = absl::StrFormat(
      "Over the whole run %s of the chosen triplets still taught under \"%s\", %s under \"%s\"", Percent(*b),
      other.name, Percent(*a), control.name);
  if (*a > 0 && *b > 0) {
    const double ratio = *b / *a;
    absl::StrAppend(&text, ratio >= 1 ? absl::StrFormat(": %.1f times as many", ratio)
                                      : absl::StrFormat(": only %.2f times as many", ratio));
  }
  out.push_back(text + ".");
}

void DescribeProgress(const RunData& run, std::vector<std::string>& out) {
  if (run.evals.size() < 2 || !run.evals.front().rank1 || !run.evals.back().rank1) return;
  const EvalLine& first = run.evals.front();
  const EvalLine& last = run.evals.back();
  const double change = *last.rank1 - *first.rank1;
  out.push_back(absl::StrFormat("\"%s\" %s from %s at step %s to %s at step %s (rank-1).", run.name,
                                change > 0   ? "rose"
                                : change < 0 ? "fell"
                                             : "stayed",
                                Percent(*first.rank1), Number(first.step), Percent(*last.rank1),
                                Number(last.step)));
}

}  // namespace

std::vector<std::string> Verdict(const std::vector<RunData>& runs) {
  std::vector<std::string> out;
  for (size_t i = 1; i < runs.size(); ++i) CompareAccuracy(runs[0], runs[i], out);
  for (size_t i = 1; i < runs.size(); ++i) CompareActive(runs[0], runs[i], out);
  for (const RunData& run : runs) DescribeProgress(run, out);
  return out;
}

}  // namespace doppel::report
