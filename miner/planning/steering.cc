#include "miner/planning/steering.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

constexpr size_t kMostSteered = 1024;
constexpr size_t kMostRunBytes = 1024;
constexpr uint32_t kDefaultWindow = 100;
constexpr uint32_t kMostWindow = 1 << 20;
// Cursors journalled as asked for at once: a record for each would be one sync for each.
constexpr uint64_t kSettleAtOnce = 256;
constexpr size_t kBoundKept = 2;
// Weights are decided anew when one of them has changed by this share.
constexpr double kLeastChange = 0.1;
constexpr double kMostFactor = 4;

absl::Status BadSteering(absl::string_view field, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("steering.", field, ": ", what));
}

bool HasBand(const v1::Steering& steering) {
  return steering.active_low() != 0 || steering.active_high() != 0;
}

bool IsOneOf(const std::string& name, std::initializer_list<const char*> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

absl::Status CheckSteering(const v1::PlanSpec& spec) {
  const v1::Steering& steering = spec.steering();
  if (steering.run().empty() || steering.run().size() > kMostRunBytes) {
    return BadSteering("run", "name the training run whose reports steer, in at most 1024 bytes");
  }
  if (steering.window() > kMostWindow) {
    return BadSteering("window", absl::StrCat(steering.window(), " is more than ", kMostWindow));
  }
  if (!HasBand(steering) && !steering.by_hardness()) {
    return BadSteering("active_low", "nothing is steered: set a band of the active share, or by_hardness");
  }
  if (HasBand(steering)) {
    const double low = steering.active_low(), high = steering.active_high();
    if (!(low > 0 && low < high && high <= 1)) {
      return BadSteering("active_low", absl::StrCat("a band ", low, " … ", high, " is not within 0 … 1"));
    }
    if (!IsOneOf(spec.name(), {"auto", "look_alikes", "mixture"})) {
      return BadSteering("active_low", absl::StrCat("plan \"", spec.name(),
                                                    "\" has no hard share: ask for auto, look_alikes or "
                                                    "mixture"));
    }
  }
  if (steering.by_hardness() && !IsOneOf(spec.name(), {"subspace", "subspace_overlap"})) {
    return BadSteering("by_hardness", absl::StrCat("plan \"", spec.name(),
                                                   "\" does not visit subspaces: ask for subspace or "
                                                   "subspace_overlap"));
  }
  if (!spec.hardness().empty() || !spec.subspace_stage().empty() || !spec.subspace_weight().empty() ||
      !spec.stage().empty()) {
    return absl::InvalidArgumentError(
        "steering: hardness, stage, subspace_weight and subspace_stage are what it decides: leave them out");
  }
  return absl::OkStatus();
}

// Of the plan before anything was decided.
double FirstHardShare(const v1::PlanSpec& spec) {
  if (!spec.part().empty()) {
    double hard = 0, all = 0;
    for (const v1::PlanPart& part : spec.part()) {
      all += part.weight();
      if (part.plan().name() != "random") hard += part.weight();
    }
    return all > 0 ? hard / all : 0;
  }
  const double group = spec.group_size() == 0 ? 4 : spec.group_size();
  const double p = std::max(1u, spec.identities_per_batch());
  return spec.groups() == 0 ? 0.5 : std::min(1.0, spec.groups() * group / p);
}

HardnessOptions ControllerOptions(const v1::PlanSpec& spec) {
  HardnessOptions options;
  if (HasBand(spec.steering())) {
    options.active_low = spec.steering().active_low();
    options.active_high = spec.steering().active_high();
  }
  options.window = spec.steering().window() == 0 ? kDefaultWindow : spec.steering().window();
  options.lead = options.window / 2;
  options.first_share = FirstHardShare(spec);
  options.most_share = std::max(options.most_share, options.first_share);
  return options;
}

bool Differ(absl::Span<const float> before, const google::protobuf::RepeatedField<float>& now) {
  for (int i = 0; i < now.size(); ++i) {
    if (std::abs(now[i] - before[i]) > kLeastChange * std::max(now[i], before[i])) return true;
  }
  return false;
}

std::string JournalName(const v1::PlanSpec& spec, uint64_t seed) {
  const std::string key = absl::StrCat(seed, ":", spec.SerializeAsString());
  const XXH128_hash_t hash = XXH3_128bits(key.data(), key.size());
  return absl::StrFormat("%016x%016x", hash.high64, hash.low64);
}

}  // namespace

std::vector<float> HardnessWeights(absl::Span<const float> sizes,
                                   absl::Span<const v1::SubspaceHardness> hardness) {
  double size = 0, active = 0, loss = 0;
  for (const v1::SubspaceHardness& one : hardness) {
    if (one.subspace() >= sizes.size()) continue;
    size += sizes[one.subspace()];
    active += sizes[one.subspace()] * one.active_share();
    loss += sizes[one.subspace()] * std::max(0.0, one.loss());
  }
  const auto over = [size](double value, double sum) { return sum > 0 ? value * size / sum : 1.0; };
  std::vector<float> weights(sizes.begin(), sizes.end());
  for (const v1::SubspaceHardness& one : hardness) {
    if (one.subspace() >= sizes.size()) continue;
    const double factor = (over(one.active_share(), active) + over(std::max(0.0, one.loss()), loss)) / 2;
    weights[one.subspace()] *= static_cast<float>(std::clamp(factor, 1 / kMostFactor, kMostFactor));
  }
  return weights;
}

// ---- state

absl::Status SteeringState::Apply(const v1::SteeringUpdate& update) {
  if (update.has_opened() == is_open())
    return absl::DataLossError("the journal of a steered plan opens it once");
  switch (update.update_case()) {
    case v1::SteeringUpdate::kOpened:
      opened_ = update.opened();
      break;
    case v1::SteeringUpdate::kHardness:
      if (!hardness_.empty() && update.hardness().from_cursor() <= hardness_.back().from_cursor()) {
        return absl::DataLossError("decisions of hardness do not ascend");
      }
      hardness_.push_back(update.hardness());
      break;
    case v1::SteeringUpdate::kSubspaces: {
      const v1::SubspaceStage* last = LastStage(update.subspaces().generation());
      if (last != nullptr && update.subspaces().from_cursor() <= last->from_cursor()) {
        return absl::DataLossError("the stages of a generation's subspaces do not ascend");
      }
      stages_.push_back(update.subspaces());
      break;
    }
    case v1::SteeringUpdate::kSettledBelow:
      settled_below_ = std::max<uint64_t>(settled_below_, update.settled_below());
      break;
    case v1::SteeringUpdate::UPDATE_NOT_SET:
      return absl::DataLossError("the journal of a steered plan holds an update of a newer program");
  }
  return absl::OkStatus();
}

const v1::SubspaceStage* SteeringState::LastStage(uint64_t generation) const {
  const auto last =
      std::find_if(stages_.rbegin(), stages_.rend(),
                   [generation](const v1::SubspaceStage& stage) { return stage.generation() == generation; });
  return last == stages_.rend() ? nullptr : &*last;
}

// ---- one plan

absl::StatusOr<std::shared_ptr<SteeredPlan>> SteeredPlan::Open(FileSystem& fs, const std::string& path,
                                                               const v1::SteeringOpened& wanted) {
  SteeringState state;
  if (fs.Exists(path)) {
    ASSIGN_OR_RETURN(const RecordFileContents contents, ReadRecordFile(fs, path));
    for (const std::string& record : contents.records) {
      v1::SteeringUpdate update;
      if (!update.ParseFromString(record))
        return absl::DataLossError(absl::StrCat(path, ": not of a steered plan"));
      const absl::Status applied = state.Apply(update);
      if (!applied.ok()) return absl::DataLossError(absl::StrCat(path, ": ", applied.message()));
    }
  }
  ASSIGN_OR_RETURN(HardnessController controller,
                   HardnessController::Make(ControllerOptions(wanted.plan()), state.hardness()));
  std::shared_ptr<SteeredPlan> plan(new SteeredPlan(wanted.plan().steering().run(), std::move(controller)));
  absl::MutexLock lock(&plan->mutex_);
  plan->state_ = std::move(state);
  ASSIGN_OR_RETURN(plan->journal_, RecordWriter::Open(fs, path));
  if (!plan->state_.is_open()) {
    v1::SteeringUpdate update;
    *update.mutable_opened() = wanted;
    RETURN_IF_ERROR(plan->Record(update));
  }
  plan->asked_below_ = plan->state_.settled_below();
  return plan;
}

absl::Status SteeredPlan::Record(const v1::SteeringUpdate& update) {
  RETURN_IF_ERROR(failure_);
  absl::Status status = journal_->Append(update.SerializeAsString());
  if (status.ok()) status = journal_->Sync();
  if (status.ok()) status = state_.Apply(update);
  if (!status.ok()) {
    // Whether the fact holds is known only when the journal is opened again.
    failure_ =
        absl::UnavailableError(absl::StrCat("the journal of a steered plan failed: ", status.ToString()));
    DOPPEL_LOG(kError, failure_.message());
  }
  return failure_;
}

v1::PlanSpec SteeredPlan::SpecFor(uint64_t generation) const {
  v1::PlanSpec spec = state_.opened().plan();
  spec.clear_steering();
  for (const v1::HardnessDecision& decision : state_.hardness()) *spec.add_hardness() = decision;
  for (const v1::SubspaceStage& stage : state_.stages()) {
    if (generation == 0 || stage.generation() == generation) *spec.add_subspace_stage() = stage;
  }
  return spec;
}

absl::StatusOr<std::shared_ptr<const SteeredPlan::Bound>> SteeredPlan::BindLocked(
    const std::shared_ptr<const Generation>& generation, const std::shared_ptr<const Catalog>& catalog) {
  RETURN_IF_ERROR(failure_);
  const uint64_t number = generation == nullptr ? 0 : generation->number();
  const auto found = bound_.find(number);
  if (found != bound_.end() && found->second->catalog->fingerprint() == catalog->fingerprint()) {
    return found->second;
  }
  if (steering().by_hardness() && generation != nullptr && state_.LastStage(number) == nullptr) {
    // No batch of this generation was drawn yet, so this may hold from the beginning: rounds are short from
    // there on, and weights can follow soon.
    v1::SteeringUpdate update;
    v1::SubspaceStage& stage = *update.mutable_subspaces();
    stage.set_generation(number);
    for (uint32_t m = 0; m < generation->num_subspaces(); ++m) {
      stage.add_weight(static_cast<float>(generation->Members(m).size()));
    }
    RETURN_IF_ERROR(Record(update));
  }
  auto bound = std::make_shared<Bound>();
  bound->spec = SpecFor(number);
  ASSIGN_OR_RETURN(bound->plan, MakePlan(bound->spec, state_.opened().seed(), catalog, generation));
  bound->catalog = catalog;
  while (bound_.size() >= kBoundKept) bound_.erase(bound_.begin());
  bound_[number] = bound;
  return std::shared_ptr<const Bound>(std::move(bound));
}

absl::StatusOr<std::shared_ptr<const SteeredPlan::Bound>> SteeredPlan::Bind(
    const std::shared_ptr<const Generation>& generation, const std::shared_ptr<const Catalog>& catalog) {
  absl::MutexLock lock(&mutex_);
  return BindLocked(generation, catalog);
}

absl::StatusOr<std::shared_ptr<const SteeredPlan::Bound>> SteeredPlan::At(
    uint64_t cursor, const std::shared_ptr<const Generation>& generation,
    const std::shared_ptr<const Catalog>& catalog) {
  absl::MutexLock lock(&mutex_);
  RETURN_IF_ERROR(failure_);
  if (cursor >= state_.settled_below()) {
    v1::SteeringUpdate update;
    update.set_settled_below(cursor + std::min(kSettleAtOnce, UINT64_MAX - cursor));
    RETURN_IF_ERROR(Record(update));
  }
  asked_below_ = std::max(asked_below_, cursor + (cursor < UINT64_MAX ? 1 : 0));
  return BindLocked(generation, catalog);
}

void SteeredPlan::Report(const v1::StepReport& step) {
  if (!step.has_active_share()) return;
  absl::MutexLock lock(&mutex_);
  // Of a cursor that was never given out: not of this stream.
  if (!failure_.ok() || step.cursor() >= asked_below_) return;
  ++reports_;
  newest_ = std::max<uint64_t>(newest_, step.cursor());
  if (HasBand(steering())) SteerHardness(step);
  if (steering().by_hardness() && step.subspace() >= 0) SteerSubspaces(step);
}

void SteeredPlan::SteerHardness(const v1::StepReport& step) {
  const std::optional<v1::HardnessDecision> decision =
      controller_.Report(step.cursor(), step.active_share(), asked_below_);
  if (!decision.has_value()) return;
  v1::SteeringUpdate update;
  *update.mutable_hardness() = *decision;
  if (!Record(update).ok()) return;
  bound_.clear();
  DOPPEL_LOG(kInfo, "run ", steering().run(), ": ", absl::StrFormat("%.3f", decision->active_share()),
             " of the triplets were active: ", absl::StrFormat("%.3f", decision->hard_share()),
             " of the identities are look-alikes from cursor ", decision->from_cursor(), " on");
}

void SteeredPlan::SteerSubspaces(const v1::StepReport& step) {
  hardness_.Add(step.generation(), static_cast<uint32_t>(step.subspace()), step.active_share(), step.loss(),
                step.model_step());
  if (step.generation() < judged_generation_) return;
  if (step.generation() > judged_generation_) since_stage_ = 0;
  judged_generation_ = step.generation();
  const uint32_t window = steering().window() == 0 ? kDefaultWindow : steering().window();
  if (++since_stage_ < window) return;
  since_stage_ = 0;
  const v1::SubspaceStage* last = state_.LastStage(judged_generation_);
  if (last == nullptr) return;
  const auto first = std::find_if(
      state_.stages().begin(), state_.stages().end(),
      [judged = judged_generation_](const v1::SubspaceStage& s) { return s.generation() == judged; });
  const v1::ListSubspaceHardnessResponse seen = hardness_.List(judged_generation_);
  const std::vector<v1::SubspaceHardness> hardness(seen.subspaces().begin(), seen.subspaces().end());
  const std::vector<float> weights =
      HardnessWeights({first->weight().data(), size_t(first->weight_size())}, hardness);
  v1::SteeringUpdate update;
  v1::SubspaceStage& stage = *update.mutable_subspaces();
  stage.set_from_cursor(std::max({newest_ + 1, asked_below_, last->from_cursor() + 1}));
  stage.set_generation(judged_generation_);
  stage.mutable_weight()->Add(weights.begin(), weights.end());
  if (!Differ(weights, last->weight()) || !Record(update).ok()) return;
  bound_.clear();
  DOPPEL_LOG(kInfo, "run ", steering().run(), ": subspaces of generation ", judged_generation_,
             " are visited by the hardness of ", hardness.size(), " of them, from cursor ",
             stage.from_cursor(), " on");
}

v1::SteeredPlan SteeredPlan::Describe() const {
  absl::MutexLock lock(&mutex_);
  v1::SteeredPlan described;
  *described.mutable_plan() = SpecFor(0);
  described.set_seed(state_.opened().seed());
  *described.mutable_steering() = steering();
  described.set_settled_below(asked_below_);
  described.set_reports(reports_);
  return described;
}

absl::Status SteeredPlan::failure() const {
  absl::MutexLock lock(&mutex_);
  return failure_;
}

// ---- all of them

SteeredPlans::SteeredPlans(FileSystem& fs, std::string directory)
    : fs_(fs), directory_(std::move(directory)) {}

absl::StatusOr<std::shared_ptr<SteeredPlan>> SteeredPlans::Join(const v1::PlanSpec& spec, uint64_t seed) {
  RETURN_IF_ERROR(CheckSteering(spec));
  if (directory_.empty()) {
    return absl::FailedPreconditionError(
        "steering: this server keeps no state, so no plan can follow reports");
  }
  const std::string name = JournalName(spec, seed);
  absl::MutexLock lock(&mutex_);
  const auto found = plans_.find(name);
  if (found != plans_.end() && found->second->failure().ok()) return found->second;
  if (found == plans_.end() && plans_.size() >= kMostSteered) {
    return absl::ResourceExhaustedError(
        absl::StrCat("steering: there are ", kMostSteered, " steered plans already"));
  }
  RETURN_IF_ERROR(fs_.MakeDirectories(directory_));
  v1::SteeringOpened wanted;
  *wanted.mutable_plan() = spec;
  wanted.set_seed(seed);
  ASSIGN_OR_RETURN(std::shared_ptr<SteeredPlan> plan,
                   SteeredPlan::Open(fs_, absl::StrCat(directory_, "/", name, ".rec"), wanted));
  plans_[name] = plan;
  return plan;
}

void SteeredPlans::Report(const v1::ReportStepsRequest& request) {
  std::vector<std::shared_ptr<SteeredPlan>> plans;
  {
    absl::MutexLock lock(&mutex_);
    plans.reserve(plans_.size());
    for (const auto& [name, plan] : plans_) plans.push_back(plan);
  }
  for (const std::shared_ptr<SteeredPlan>& plan : plans) {
    if (plan->run() != request.run()) continue;
    for (const v1::StepReport& step : request.steps()) plan->Report(step);
  }
}

v1::ListSteeringResponse SteeredPlans::List(const std::string& run) const {
  std::vector<std::shared_ptr<SteeredPlan>> plans;
  {
    absl::MutexLock lock(&mutex_);
    plans.reserve(plans_.size());
    for (const auto& [name, plan] : plans_) plans.push_back(plan);
  }
  v1::ListSteeringResponse response;
  for (const std::shared_ptr<SteeredPlan>& plan : plans) {
    if (run.empty() || plan->run() == run) *response.add_plans() = plan->Describe();
  }
  return response;
}

}  // namespace doppel
