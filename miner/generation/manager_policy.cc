// GenerationManager: re-clustering without being asked.
#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "miner/generation/facts.h"
#include "miner/generation/generation_manager.h"

namespace doppel {
namespace {

// The last request that published a generation.
v1::ReclusterRequest LastRequest(const std::vector<MinerState::OperationRecord>& operations) {
  for (auto it = operations.rbegin(); it != operations.rend(); ++it) {
    if (it->ended && it->ended->state() == v1::Operation::STATE_SUCCEEDED && it->ended->generation() != 0) {
      return it->started.request();
    }
  }
  return {};
}

absl::Time StartTime(const v1::OperationStarted& started) {
  absl::Time time = absl::InfinitePast();
  std::string error;
  return absl::ParseTime(absl::RFC3339_full, started.started_at(), &time, &error) ? time
                                                                                  : absl::InfinitePast();
}

}  // namespace

absl::StatusOr<v1::ReclusterPolicySpec> GenerationManager::SetPolicy(const v1::ReclusterPolicySpec& spec) {
  RETURN_IF_ERROR(ReclusterPolicy::Validate(spec));
  absl::MutexLock lock(&mutex_);
  RETURN_IF_ERROR(Record({PolicyFact(spec)}));
  v1::WatchResponse event;
  *event.mutable_policy() = spec;
  events_.Add(std::move(event));
  return spec;
}

void GenerationManager::SetTrainingSource(TrainingSource source) {
  absl::MutexLock lock(&mutex_);
  training_ = std::move(source);
}

GenerationManager::PolicyInputs GenerationManager::GatherPolicy() {
  PolicyInputs inputs;
  PolicyFacts& facts = inputs.facts;
  const std::shared_ptr<const Generation> active = active_.Get();
  std::optional<uint64_t> reported_step;
  {
    absl::MutexLock lock(&mutex_);
    inputs.spec = state_.policy() ? *state_.policy() : options_.policy;
    inputs.request =
        inputs.spec.request().model_path().empty() ? LastRequest(state_.operations()) : inputs.spec.request();
    facts.now = options_.clock->Now();
    facts.has_active = active != nullptr;
    facts.job_running = job_ != nullptr || !state_.queued().empty();
    for (const MinerState::OperationRecord& record : state_.operations()) {
      const absl::Time start = StartTime(record.started);
      if (record.started.request().dry_run()) continue;
      facts.last_start = std::max(facts.last_start.value_or(start), start);
      const bool by_policy = !record.started.policy_reason().empty();
      facts.started_within_day += by_policy && facts.now - start < absl::Hours(24);
    }
    const TrainingFacts training = training_ ? training_() : TrainingFacts();
    facts.batches_since_activation = training.batches_acknowledged - counted_from_;
    facts.active_share = training.active_share;
    reported_step = training.model_step;
  }
  inputs.request.clear_queue();
  if (active == nullptr) return inputs;
  // The model's files: without the lock.
  const absl::StatusOr<ResolvedRequest> resolved =
      ResolveRequest(inputs.request, *catalog_.Get(), *options_.fs);
  const uint64_t step = active->info().model_step();
  uint64_t newest = reported_step.value_or(0);
  facts.same_weights = newest <= step;
  if (resolved.ok()) {
    newest = std::max(newest, resolved->model.step);
    if (resolved->model.fingerprint != active->info().model_fingerprint()) facts.same_weights = false;
  }
  facts.staleness_steps = newest > step ? newest - step : 0;
  return inputs;
}

v1::GetPolicyResponse GenerationManager::GetPolicy() {
  const PolicyInputs inputs = GatherPolicy();
  v1::GetPolicyResponse response;
  *response.mutable_policy() = inputs.spec;
  response.set_batches_since_activation(inputs.facts.batches_since_activation);
  response.set_staleness_steps(inputs.facts.staleness_steps);
  response.set_active_share(inputs.facts.active_share.value_or(-1));
  const ReclusterPolicy::Verdict verdict = ReclusterPolicy(inputs.spec).Decide(inputs.facts);
  response.set_verdict((verdict.recluster ? "re-cluster: " : "") + verdict.reason);
  return response;
}

void GenerationManager::CheckPolicy() {
  {
    absl::MutexLock lock(&mutex_);
    const v1::ReclusterPolicySpec& spec = state_.policy() ? *state_.policy() : options_.policy;
    // Not worth a look at the disk.
    if (spec.every_batches() == 0 && spec.max_staleness_steps() == 0 && spec.min_active_share() == 0) return;
  }
  const PolicyInputs inputs = GatherPolicy();
  const ReclusterPolicy::Verdict verdict = ReclusterPolicy(inputs.spec).Decide(inputs.facts);
  if (!verdict.recluster) return;
  const absl::StatusOr<v1::Operation> started = Start(inputs.request, verdict.reason);
  const std::string said = started.ok()
                               ? started->id() + " starts: " + verdict.reason
                               : "the policy wants to re-cluster, but cannot: " + started.status().ToString();
  absl::MutexLock lock(&mutex_);
  // A reason that stays is said once.
  if (said == last_verdict_) return;
  last_verdict_ = said;
  if (started.ok()) {
    DOPPEL_LOG(kInfo, said);
  } else {
    DOPPEL_LOG(kWarning, said);
  }
}

void GenerationManager::WatchPolicy() {
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      if (mutex_.AwaitWithTimeout(absl::Condition(&stopping_), options_.policy_interval)) return;
    }
    CheckPolicy();
  }
}

}  // namespace doppel
