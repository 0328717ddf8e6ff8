// GenerationManager: re-clustering without being asked.
#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/log.h"
#include "common/base/permutation.h"
#include "common/base/status_macros.h"
#include "miner/generation/facts.h"
#include "miner/generation/generation_manager.h"

namespace doppel {
namespace {

constexpr absl::Duration kChurnInterval = absl::Seconds(10);
// Identities of a sample: fewer if there are many centroids, but some.
constexpr uint64_t kMostSampled = 2048;
constexpr uint64_t kFewestSampled = 64;
constexpr uint64_t kSampleWork = uint64_t{1} << 28;  // multiplications
constexpr uint64_t kChurnKey = 0x636875726e;         // "churn"

uint32_t NearestCentroid(const Generation& generation, const float* row) {
  uint32_t nearest = 0;
  float most = -2;
  for (uint32_t m = 0; m < generation.num_subspaces(); ++m) {
    const float* centroid = generation.Centroid(m).data();
    const float cosine = std::inner_product(row, row + generation.dimension(), centroid, 0.0F);
    if (cosine > most) {
      most = cosine;
      nearest = m;
    }
  }
  return nearest;
}

// Of the identities of a sample that trainers have reported, those whose live representation is nearest to
// another centroid than the one that they were mined by. Compared with the centroid that is nearest, and not
// with the subspace, which balancing and merging may have changed. nullopt: too few were reported.
std::optional<double> SampledChurn(const Generation& generation, const RunningMeanManager& live) {
  const uint64_t cost =
      2 * static_cast<uint64_t>(generation.dimension()) * std::max(1u, generation.num_subspaces());
  const uint64_t count =
      std::min(std::clamp(kSampleWork / cost, kFewestSampled, kMostSampled), generation.num_identities());
  std::vector<uint64_t> identities(count);
  KeyedPermutation(generation.num_identities(), kChurnKey).Range(0, count, identities.data());
  for (uint64_t& identity : identities) identity += generation.first_identity();
  std::vector<uint64_t> seen;
  const Matrix rows = live.Find(identities, &seen);
  if (rows.dimension != generation.dimension() || seen.size() < std::min(kFewestSampled, count)) {
    return std::nullopt;
  }
  uint64_t moved = 0;
  for (size_t i = 0; i < seen.size(); ++i) {
    const uint32_t before = NearestCentroid(generation, generation.Representation(seen[i]).data());
    moved += NearestCentroid(generation, rows.row(static_cast<int64_t>(i))) != before ? 1 : 0;
  }
  return static_cast<double>(moved) / static_cast<double>(seen.size());
}

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
    // What a generation before showed says nothing of this one.
    if (active != nullptr && training.generation == active->number())
      facts.active_share = training.active_share;
    reported_step = training.model_step;
  }
  inputs.request.clear_queue();
  if (active == nullptr) return inputs;
  if (inputs.spec.max_churn() > 0 && environment_.live != nullptr)
    facts.churn = CheckChurn(*active, facts.now);
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

std::optional<double> GenerationManager::CheckChurn(const Generation& active, absl::Time now) {
  const RunningMeanManager::Training training = environment_.live->DescribeTraining();
  {
    absl::MutexLock lock(&mutex_);
    const bool same = churn_.generation == active.number() && churn_.reports == training.reports;
    if (same || (churn_.generation == active.number() && now - churn_.at < kChurnInterval))
      return churn_.share;
  }
  const std::optional<double> share = SampledChurn(active, *environment_.live);
  absl::MutexLock lock(&mutex_);
  churn_ = {active.number(), training.reports, now, share};
  return share;
}

v1::GetPolicyResponse GenerationManager::GetPolicy() {
  const PolicyInputs inputs = GatherPolicy();
  v1::GetPolicyResponse response;
  *response.mutable_policy() = inputs.spec;
  response.set_batches_since_activation(inputs.facts.batches_since_activation);
  response.set_staleness_steps(inputs.facts.staleness_steps);
  response.set_active_share(inputs.facts.active_share.value_or(-1));
  response.set_sampled_churn(inputs.facts.churn.value_or(-1));
  const ReclusterPolicy::Verdict verdict = ReclusterPolicy(inputs.spec).Decide(inputs.facts);
  response.set_verdict((verdict.recluster ? "re-cluster: " : "") + verdict.reason);
  return response;
}

void GenerationManager::CheckPolicy() {
  {
    absl::MutexLock lock(&mutex_);
    const v1::ReclusterPolicySpec& spec = state_.policy() ? *state_.policy() : options_.policy;
    // Not worth a look at the disk.
    if (!ReclusterPolicy::HasCondition(spec)) return;
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
    Look();
  }
}

void GenerationManager::Look() {
  CheckPolicy();
  if (options_.stall_after > absl::ZeroDuration()) WatchJob();
}

// ---- the watchdog

void GenerationManager::WatchJob() {
  absl::MutexLock lock(&mutex_);
  if (job_ == nullptr) {
    mark_ = JobMark();
    return;
  }
  const BuildJob::Progress progress = job_->progress();
  const std::string& id = job_->started().id();
  const std::string seen = absl::StrCat(id, " ", progress.phase, " ", progress.done, "/", progress.total);
  const absl::Time now = options_.clock->Now();
  if (seen != mark_.seen) {
    if (mark_.stalled) DOPPEL_LOG(kInfo, id, " moves again: ", progress.phase, " ", progress.done);
    mark_ = {seen, now, false};
    return;
  }
  if (mark_.stalled || now - mark_.since < options_.stall_after) return;
  mark_.stalled = true;
  const std::string what =
      absl::StrCat("no progress for ", absl::FormatDuration(options_.stall_after), " in phase ",
                   progress.phase, " (", progress.done, " of ", progress.total, ")",
                   progress.phase == "embed" ? ": is an embedder running that reaches this miner?" : "");
  DOPPEL_LOG(kError, id, " is stalled: ", what, options_.stall_cancel ? ": ended" : "");
  if (options_.stall_cancel) job_->Interrupt(absl::DeadlineExceededError(what));
  AddOperationEvent(id);
}

std::string GenerationManager::StalledOperation() const {
  absl::MutexLock lock(&mutex_);
  return job_ != nullptr && mark_.IsStalled(job_->started().id()) ? job_->started().id() : "";
}

}  // namespace doppel
