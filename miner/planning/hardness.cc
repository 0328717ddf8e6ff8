#include "miner/planning/hardness.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

constexpr int kMostDecisions = 65536;
// Active shares below are taken for this: the logarithm must end somewhere.
constexpr double kLeastActive = 1e-4;
// Of the logarithm: twice too active is as much as half a step of 0.1.
constexpr double kGain = 0.07;

absl::Status Refuse(const char* option, double value, const char* want) {
  return absl::InvalidArgumentError(absl::StrCat(option, " is ", value, ": ", want));
}

absl::Status CheckOptions(const HardnessOptions& o) {
  if (!(o.active_low > 0 && o.active_low < 1)) {
    return Refuse("active_low", o.active_low, "a share between 0 and 1");
  }
  if (!(o.active_high > o.active_low && o.active_high <= 1)) {
    return Refuse("active_high", o.active_high, "a share above active_low, at most 1");
  }
  if (!(o.least_share >= 0 && o.least_share < o.most_share)) {
    return Refuse("least_share", o.least_share, "a share from 0 on, below most_share");
  }
  if (!(o.most_share <= 1)) return Refuse("most_share", o.most_share, "at most 1");
  if (!(o.first_share >= o.least_share && o.first_share <= o.most_share)) {
    return Refuse("first_share", o.first_share, "between least_share and most_share");
  }
  if (!(o.most_step > 0 && o.most_step <= 1)) return Refuse("most_step", o.most_step, "above 0, at most 1");
  if (o.window == 0) return Refuse("window", 0, "at least 1 batch");
  return absl::OkStatus();
}

absl::Status CheckDecisions(const v1::HardnessDecision* begin, const v1::HardnessDecision* end) {
  for (const v1::HardnessDecision* decision = begin; decision != end; ++decision) {
    if (!(decision->hard_share() >= 0 && decision->hard_share() <= 1)) {
      return absl::InvalidArgumentError(
          absl::StrCat("hardness: hard_share ", decision->hard_share(), " is not between 0 and 1"));
    }
    if (decision != begin && decision->from_cursor() <= (decision - 1)->from_cursor()) {
      return absl::InvalidArgumentError(
          absl::StrCat("hardness: from_cursor ", decision->from_cursor(), " is not above the one before it"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckHardness(const v1::PlanSpec& spec) {
  if (spec.hardness_size() > kMostDecisions) {
    return absl::InvalidArgumentError(
        absl::StrCat("hardness has ", spec.hardness_size(), " decisions, at most ", kMostDecisions));
  }
  const std::vector<v1::HardnessDecision> decisions(spec.hardness().begin(), spec.hardness().end());
  return CheckDecisions(decisions.data(), decisions.data() + decisions.size());
}

std::optional<v1::HardnessDecision> DecisionAt(const v1::PlanSpec& spec, uint64_t cursor) {
  const auto after = std::upper_bound(
      spec.hardness().begin(), spec.hardness().end(), cursor,
      [](uint64_t at, const v1::HardnessDecision& decision) { return at < decision.from_cursor(); });
  if (after == spec.hardness().begin()) return std::nullopt;
  return *(after - 1);
}

double NextHardShare(const HardnessOptions& options, double hard_share, double active_share) {
  if (active_share >= options.active_low && active_share <= options.active_high) return hard_share;
  // The band's middle on the scale on which active shares spread: orders of magnitude.
  const double wanted = std::sqrt(options.active_low * options.active_high);
  const double step = kGain * std::log(wanted / std::max(active_share, kLeastActive));
  return std::clamp(hard_share + std::clamp(step, -options.most_step, options.most_step), options.least_share,
                    options.most_share);
}

absl::StatusOr<HardnessController> HardnessController::Make(const HardnessOptions& options,
                                                            std::vector<v1::HardnessDecision> past) {
  RETURN_IF_ERROR(CheckOptions(options));
  RETURN_IF_ERROR(CheckDecisions(past.data(), past.data() + past.size()));
  return HardnessController(options, std::move(past));
}

HardnessController::HardnessController(const HardnessOptions& options, std::vector<v1::HardnessDecision> past)
    : options_(options), decisions_(std::move(past)) {
  if (!decisions_.empty()) {
    next_window_ = (decisions_.back().from_cursor() + options_.window - 1) / options_.window;
  }
}

std::optional<v1::HardnessDecision> HardnessController::Report(uint64_t cursor, double active_share,
                                                               uint64_t settled_below) {
  const uint64_t window = cursor / options_.window;
  if (!(active_share >= 0 && active_share <= 1) || window < next_window_) return std::nullopt;
  reports_[window].emplace(cursor, active_share);
  newest_ = std::max(newest_, cursor);
  while (!reports_.empty()) {
    const auto first = reports_.begin();
    const bool whole = first->second.size() == options_.window;
    if (!whole && reports_.rbegin()->first < first->first + 2) return std::nullopt;
    const uint64_t judged = first->first;
    const std::map<uint64_t, double> reports = std::move(first->second);
    reports_.erase(first);
    next_window_ = std::max(next_window_, judged + 1);
    if (2 * reports.size() < options_.window) continue;
    std::optional<v1::HardnessDecision> decision = Judge(judged, reports, settled_below);
    if (decision.has_value()) return decision;
  }
  return std::nullopt;
}

std::optional<v1::HardnessDecision> HardnessController::Judge(uint64_t window,
                                                              const std::map<uint64_t, double>& reports,
                                                              uint64_t settled_below) {
  double sum = 0;  // in the order of the cursors
  for (const auto& [cursor, active] : reports) sum += active;
  const double mean = sum / static_cast<double>(reports.size());
  const double share = NextHardShare(options_, hard_share(), mean);
  if (share == hard_share() || decisions_.size() >= kMostDecisions) return std::nullopt;
  v1::HardnessDecision decision;
  decision.set_from_cursor(
      std::max(std::max((window + 1) * options_.window, newest_ + 1) + options_.lead, settled_below));
  decision.set_hard_share(share);
  decision.set_active_share(mean);
  decisions_.push_back(decision);
  next_window_ = (decision.from_cursor() + options_.window - 1) / options_.window;
  reports_.erase(reports_.begin(), reports_.lower_bound(next_window_));
  return decision;
}

}  // namespace doppel
