#include "miner/planning/mixture_plan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "miner/planning/hardness.h"

namespace doppel {
namespace {

constexpr int64_t kPattern = 128;
constexpr int kMostParts = 16;

using Weights = std::vector<double>;

// Weights as whole numbers that add up to kPattern: largest remainders, ties to the first; nobody above 0
// gets nothing.
std::vector<int64_t> Slots(const Weights& weights) {
  double sum = 0;
  for (double weight : weights) sum += weight;
  std::vector<int64_t> slots;
  std::vector<std::pair<double, size_t>> remainders;
  int64_t left = kPattern;
  for (size_t part = 0; part < weights.size(); ++part) {
    const double exact = static_cast<double>(kPattern) * weights[part] / sum;
    slots.push_back(weights[part] > 0 ? std::max<int64_t>(1, static_cast<int64_t>(exact)) : 0);
    if (weights[part] > 0) remainders.emplace_back(static_cast<double>(slots.back()) - exact, part);
    left -= slots.back();
  }
  std::sort(remainders.begin(), remainders.end());
  for (size_t i = 0; left > 0; i = (i + 1) % remainders.size(), --left) ++slots[remainders[i].second];
  for (; left < 0; ++left) --*std::max_element(slots.begin(), slots.end());
  return slots;
}

struct MixtureStage {
  uint64_t from_cursor = 0;
  std::vector<int64_t> slots;    // [parts]
  std::vector<uint64_t> before;  // [parts], batches of each before from_cursor
};

// Walks the pattern up to slot `end`: `count` gets how many of each part come before it. Returns the part of
// slot `end`.
size_t WalkPattern(const std::vector<int64_t>& slots, int64_t end, std::vector<uint64_t>* count) {
  count->assign(slots.size(), 0);
  size_t next = 0;
  for (int64_t slot = 0; slot <= end; ++slot) {
    int64_t most = std::numeric_limits<int64_t>::min();
    for (size_t part = 0; part < slots.size(); ++part) {
      const int64_t lag = slots[part] * (slot + 1) - kPattern * static_cast<int64_t>((*count)[part]);
      if (slots[part] > 0 && lag > most) {
        most = lag;
        next = part;
      }
    }
    if (slot < end) ++(*count)[next];
  }
  return next;
}

class MixturePlan : public Plan {
 public:
  MixturePlan(std::vector<std::shared_ptr<const Plan>> parts,
              const std::vector<std::pair<uint64_t, Weights>>& weights)
      : parts_(std::move(parts)) {
    for (const auto& [cursor, stage] : weights) AddStage(cursor, stage);
    uint64_t longest = 0;
    for (size_t part = 0; part < parts_.size(); ++part) {
      const PlanCoverage& own = parts_[part]->coverage();
      if (own.identities > coverage_.identities) {
        coverage_.identities = own.identities;
        coverage_.left_out = own.left_out;
        coverage_.left_out_reason = own.left_out_reason;
      }
      const int64_t slots = stages_.front().slots[part];
      if (slots == 0) continue;
      longest = std::max(longest, static_cast<uint64_t>(std::ceil(static_cast<double>(own.batches_per_epoch) *
                                                                  static_cast<double>(kPattern) /
                                                                  static_cast<double>(slots))));
    }
    coverage_.batches_per_epoch = longest;
  }

  PlannedBatch At(uint64_t cursor) const override {
    const MixtureStage& stage =
        *(std::upper_bound(stages_.begin(), stages_.end(), cursor,
                           [](uint64_t c, const MixtureStage& s) { return c < s.from_cursor; }) -
          1);
    std::vector<uint64_t> count;
    const size_t part = Count(stage, cursor, &count);
    PlannedBatch batch = parts_[part]->At(count[part]);
    batch.cursor = cursor;
    return batch;
  }

  const PlanCoverage& coverage() const override { return coverage_; }

 private:
  // How many batches of each part come before the cursor. Returns whose turn it is there.
  static size_t Count(const MixtureStage& stage, uint64_t cursor, std::vector<uint64_t>* count) {
    const uint64_t passed = cursor - stage.from_cursor;
    const size_t part =
        WalkPattern(stage.slots, static_cast<int64_t>(passed % static_cast<uint64_t>(kPattern)), count);
    for (size_t i = 0; i < count->size(); ++i) {
      (*count)[i] +=
          stage.before[i] + passed / static_cast<uint64_t>(kPattern) * static_cast<uint64_t>(stage.slots[i]);
    }
    return part;
  }

  void AddStage(uint64_t from_cursor, const Weights& weights) {
    MixtureStage stage;
    stage.from_cursor = from_cursor;
    stage.slots = Slots(weights);
    stage.before.assign(weights.size(), 0);
    if (!stages_.empty()) Count(stages_.back(), from_cursor, &stage.before);
    stages_.push_back(std::move(stage));
  }

  const std::vector<std::shared_ptr<const Plan>> parts_;
  std::vector<MixtureStage> stages_;
  PlanCoverage coverage_;
};

absl::Status CheckMixtureWeights(const Weights& weights) {
  double sum = 0;
  for (double weight : weights) {
    if (!(weight >= 0 && weight < 1e12)) {
      return absl::InvalidArgumentError(absl::StrCat("weight ", weight, ": a weight is a number from 0 on"));
    }
    sum += weight;
  }
  if (sum > 0) return absl::OkStatus();
  return absl::InvalidArgumentError("weight: at least one part of a mixture must have one above 0");
}

// The weights with the hard parts' sum set to `share`.
absl::StatusOr<Weights> WithHardShare(const Weights& weights, const std::vector<bool>& hard, double share) {
  double sums[2] = {0, 0};
  int parts[2] = {0, 0};
  for (size_t i = 0; i < weights.size(); ++i) {
    sums[hard[i] ? 1 : 0] += weights[i];
    ++parts[hard[i] ? 1 : 0];
  }
  if (parts[0] == 0 || parts[1] == 0) {
    return absl::InvalidArgumentError(
        "hardness: a mixture whose hardness changes needs a random part and another one");
  }
  const double wanted[2] = {1 - share, share};
  Weights changed;
  changed.reserve(weights.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    const int kind = hard[i] ? 1 : 0;
    // Parts of one kind that all have no weight share alike.
    changed.push_back(wanted[kind] * (sums[kind] > 0 ? weights[i] / sums[kind] : 1.0 / parts[kind]));
  }
  return changed;
}

// Stages and decisions as one list of weights by ascending cursor, the first from 0.
absl::StatusOr<std::vector<std::pair<uint64_t, Weights>>> StagesOf(const v1::PlanSpec& spec,
                                                                   const std::vector<bool>& hard) {
  RETURN_IF_ERROR(CheckHardness(spec));
  Weights weights;
  for (const v1::PlanPart& part : spec.part()) weights.push_back(part.weight());
  std::set<uint64_t> cursors = {0};
  for (int i = 0; i < spec.stage_size(); ++i) {
    if (spec.stage(i).weight_size() != spec.part_size()) {
      return absl::InvalidArgumentError(absl::StrCat("stage from cursor ", spec.stage(i).from_cursor(),
                                                     " has ", spec.stage(i).weight_size(), " weights for ",
                                                     spec.part_size(), " parts"));
    }
    if (i > 0 && spec.stage(i).from_cursor() <= spec.stage(i - 1).from_cursor()) {
      return absl::InvalidArgumentError(absl::StrCat("stage from cursor ", spec.stage(i).from_cursor(),
                                                     ": its cursor is not above the one before it"));
    }
    cursors.insert(spec.stage(i).from_cursor());
  }
  for (const v1::HardnessDecision& decision : spec.hardness()) cursors.insert(decision.from_cursor());
  std::vector<std::pair<uint64_t, Weights>> stages;
  stages.reserve(cursors.size());
  int stage = 0, decision = 0;
  for (uint64_t cursor : cursors) {
    for (; stage < spec.stage_size() && spec.stage(stage).from_cursor() <= cursor; ++stage) {
      weights.assign(spec.stage(stage).weight().begin(), spec.stage(stage).weight().end());
    }
    while (decision < spec.hardness_size() && spec.hardness(decision).from_cursor() <= cursor) ++decision;
    RETURN_IF_ERROR(CheckMixtureWeights(weights));
    Weights in_force = weights;
    if (decision > 0) {
      ASSIGN_OR_RETURN(in_force, WithHardShare(weights, hard, spec.hardness(decision - 1).hard_share()));
    }
    stages.emplace_back(cursor, std::move(in_force));
  }
  return stages;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Plan>> MakeMixturePlan(
    const PlanInputs& inputs,
    const std::function<absl::StatusOr<std::shared_ptr<const Plan>>(const v1::PlanSpec&)>& make_part) {
  const v1::PlanSpec& spec = inputs.spec;
  if (spec.part_size() > kMostParts) {
    return absl::InvalidArgumentError(
        absl::StrCat("part: a mixture of ", spec.part_size(), " plans, at most ", kMostParts));
  }
  std::vector<std::shared_ptr<const Plan>> parts;
  std::vector<bool> hard;
  for (const v1::PlanPart& part : spec.part()) {
    v1::PlanSpec own = part.plan();
    if (own.name() == "mixture" || own.name() == "auto") {
      return absl::InvalidArgumentError(
          absl::StrCat("part: a mixture of plans that are not \"", own.name(), "\" themselves"));
    }
    if (own.identities_per_batch() != 0 || own.samples_per_identity() != 0 || !own.split().empty()) {
      return absl::InvalidArgumentError("part: P, K and split are those of the mixture; leave them out");
    }
    own.set_identities_per_batch(spec.identities_per_batch());
    own.set_samples_per_identity(spec.samples_per_identity());
    own.set_split(spec.split());
    own.set_images(spec.images());
    absl::StatusOr<std::shared_ptr<const Plan>> made = make_part(own);
    if (!made.ok()) {
      return absl::Status(made.status().code(),
                          absl::StrCat("part \"", own.name(), "\": ", made.status().message()));
    }
    parts.push_back(*std::move(made));
    hard.push_back(own.name() != "random");
  }
  ASSIGN_OR_RETURN(const auto stages, StagesOf(spec, hard));
  return std::make_shared<const MixturePlan>(std::move(parts), stages);
}

}  // namespace doppel
