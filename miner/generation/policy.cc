#include "miner/generation/policy.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace doppel {
namespace {

constexpr double kDefaultMinInterval = 60;
constexpr uint32_t kDefaultMaxPerDay = 48;

v1::ReclusterPolicySpec WithDefaults(v1::ReclusterPolicySpec spec) {
  if (spec.min_interval_seconds() == 0) spec.set_min_interval_seconds(kDefaultMinInterval);
  if (spec.max_per_day() == 0) spec.set_max_per_day(kDefaultMaxPerDay);
  return spec;
}

}  // namespace

ReclusterPolicy::ReclusterPolicy(v1::ReclusterPolicySpec spec) : spec_(WithDefaults(std::move(spec))) {}

absl::Status ReclusterPolicy::Validate(const v1::ReclusterPolicySpec& spec) {
  if (!(spec.min_active_share() >= 0 && spec.min_active_share() <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("policy.min_active_share: ", spec.min_active_share(), " is not within 0 … 1"));
  }
  if (!(spec.max_churn() >= 0 && spec.max_churn() <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("policy.max_churn: ", spec.max_churn(), " is not within 0 … 1"));
  }
  if (!(spec.min_interval_seconds() >= 0) || std::isinf(spec.min_interval_seconds())) {
    return absl::InvalidArgumentError(
        absl::StrCat("policy.min_interval_seconds: ", spec.min_interval_seconds(), " is no time"));
  }
  if (spec.request().dry_run()) {
    return absl::InvalidArgumentError("policy.request.dry_run: the policy is there to publish generations");
  }
  return absl::OkStatus();
}

std::string ReclusterPolicy::Condition(const PolicyFacts& facts) const {
  if (spec_.every_batches() > 0 && facts.batches_since_activation >= spec_.every_batches()) {
    return absl::StrCat(facts.batches_since_activation, " batches since the active generation came, ",
                        spec_.every_batches(), " were set");
  }
  if (spec_.max_staleness_steps() > 0 && facts.staleness_steps > spec_.max_staleness_steps()) {
    return absl::StrCat("the model is ", facts.staleness_steps, " steps ahead of the active generation, ",
                        spec_.max_staleness_steps(), " were set");
  }
  if (spec_.min_active_share() > 0 && facts.active_share && *facts.active_share < spec_.min_active_share()) {
    return absl::StrFormat("%.3g of the triplets are active, %.3g were set", *facts.active_share,
                           spec_.min_active_share());
  }
  if (spec_.max_churn() > 0 && facts.churn && *facts.churn > spec_.max_churn()) {
    return absl::StrFormat("%.3g of a sample would be in another subspace, %.3g were set", *facts.churn,
                           spec_.max_churn());
  }
  return "";
}

bool ReclusterPolicy::HasCondition(const v1::ReclusterPolicySpec& spec) {
  return spec.every_batches() > 0 || spec.max_staleness_steps() > 0 || spec.min_active_share() > 0 ||
         spec.max_churn() > 0;
}

ReclusterPolicy::Verdict ReclusterPolicy::Decide(const PolicyFacts& facts) const {
  if (!HasCondition(spec_)) {
    return {false, "no condition is set"};
  }
  if (!facts.has_active) return {false, "no generation is active yet: the first one is asked for"};
  if (facts.job_running) return {false, "a job is running"};
  const std::string condition = Condition(facts);
  if (condition.empty()) return {false, "no condition holds"};
  if (facts.same_weights) {
    return {false, absl::StrCat(condition, "; but the model is still that of the active generation")};
  }
  if (facts.last_start) {
    const double since = absl::ToDoubleSeconds(facts.now - *facts.last_start);
    if (since < spec_.min_interval_seconds()) {
      return {false, absl::StrFormat("%s; but the last job began %.0f s ago, and %.0f s are to pass",
                                     condition, since, spec_.min_interval_seconds())};
    }
  }
  if (facts.started_within_day >= spec_.max_per_day()) {
    return {false,
            absl::StrCat(condition, "; but the day's budget of ", spec_.max_per_day(), " jobs is used up")};
  }
  return {true, condition};
}

}  // namespace doppel
