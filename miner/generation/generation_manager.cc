#include "miner/generation/generation_manager.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "common/io/atomic_file.h"

namespace doppel {
namespace {

constexpr size_t kPassesKept = 2;
constexpr double kLeaseRetrySeconds = 0.5;

std::string FormatUtc(absl::Time time) {
  return absl::FormatTime("%Y-%m-%d%ET%H:%M:%E3SZ", time, absl::UTCTimeZone());
}

absl::Status NoSuchOperation(absl::string_view id) {
  return absl::NotFoundError(absl::StrCat("operation \"", id, "\" is unknown; list the operations"));
}

v1::MinerUpdate Published(uint64_t generation) {
  v1::MinerUpdate update;
  update.mutable_generation_published()->set_generation(generation);
  return update;
}

v1::MinerUpdate Activated(uint64_t generation) {
  v1::MinerUpdate update;
  update.mutable_generation_activated()->set_generation(generation);
  return update;
}

v1::MinerUpdate Ended(const v1::OperationStarted& started, double seconds) {
  v1::MinerUpdate update;
  v1::OperationEnded& ended = *update.mutable_operation_ended();
  ended.set_id(started.id());
  ended.set_state(v1::Operation::STATE_SUCCEEDED);
  ended.set_generation(started.generation());
  ended.set_elapsed_seconds(seconds);
  return update;
}

}  // namespace

GenerationManager::GenerationManager(Options options)
    : options_(std::move(options)), journal_path_(options_.state_directory + "/journal.rec") {}

absl::StatusOr<std::unique_ptr<GenerationManager>> GenerationManager::Open(Options options) {
  std::unique_ptr<GenerationManager> manager(new GenerationManager(std::move(options)));
  RETURN_IF_ERROR(manager->Load());
  return manager;
}

GenerationManager::~GenerationManager() {
  std::thread thread;
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    if (job_ != nullptr)
      job_->Interrupt(absl::AbortedError("the miner stops; the operation goes on after its start"));
    thread = std::move(thread_);
  }
  if (thread.joinable()) thread.join();
}

absl::Status GenerationManager::Load() {
  FileSystem& fs = *options_.fs;
  const std::string& directory = options_.state_directory;
  if (directory.empty())
    return absl::InvalidArgumentError("state: empty; name a directory for the miner's state");
  RETURN_IF_ERROR(fs.MakeDirectories(directory));
  ASSIGN_OR_RETURN(lock_, StateLock::Acquire(directory));
  const RunningMeanManager* live = nullptr;
  if (options_.open_stores) {
    ASSIGN_OR_RETURN(live, options_.open_stores());
  }
  store_ = std::make_unique<GenerationStore>(fs, directory + "/generations");
  RETURN_IF_ERROR(store_->Initialize());
  environment_ = {&fs,
                  options_.clock,
                  options_.catalog,
                  options_.clusterer.get(),
                  store_.get(),
                  directory + "/representations",
                  options_.cluster_threads,
                  options_.lease_identities,
                  options_.lease_duration,
                  live,
                  [this] { return active_.Get(); }};
  absl::MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(journal_, Journal::Open(fs, journal_path_, state_));
  RETURN_IF_ERROR(BindCatalog(!state_.operations().empty()));
  RETURN_IF_ERROR(fs.MakeDirectories(environment_.representations_directory));
  RETURN_IF_ERROR(fs.SyncDirectory(directory));
  RETURN_IF_ERROR(TakeUpOperation());
  return LoadGenerations();
}

absl::Status GenerationManager::BindCatalog(bool has_history) {
  const std::string path = options_.state_directory + "/CATALOG";
  const std::string& fingerprint = options_.catalog->fingerprint();
  if (options_.fs->Exists(path)) {
    ASSIGN_OR_RETURN(const std::string text, options_.fs->ReadFile(path));
    const absl::string_view bound = absl::StripAsciiWhitespace(text);
    if (bound == fingerprint) return absl::OkStatus();
    if (has_history) {
      return absl::FailedPreconditionError(absl::StrCat(
          options_.state_directory, ": its generations were made of the catalog with fingerprint ", bound,
          ", but the catalog ", options_.catalog->directory(), " has ", fingerprint,
          "; give each catalog a state directory of its own"));
    }
  }
  return WriteFileAtomically(*options_.fs, path, fingerprint + "\n");
}

absl::Status GenerationManager::LoadGenerations() {
  for (uint64_t number : state_.published()) {
    const absl::StatusOr<v1::GenerationManifest> manifest = store_->ReadManifest(number);
    if (manifest.ok()) {
      infos_[number] = manifest->info();
    } else {
      DOPPEL_LOG(kError, "generation ", number, ": ", manifest.status().ToString());
      damaged_[number] = manifest.status();
    }
  }
  if (state_.active() == 0) return absl::OkStatus();
  // The one that was active; if it is damaged, the newest good one: serving goes on.
  std::vector<uint64_t> candidates(state_.published().rbegin(), state_.published().rend());
  std::stable_partition(candidates.begin(), candidates.end(),
                        [this](uint64_t number)
                            ABSL_NO_THREAD_SAFETY_ANALYSIS { return number == state_.active(); });
  for (uint64_t number : candidates) {
    absl::StatusOr<std::shared_ptr<const Generation>> generation =
        store_->Load(number, options_.catalog->fingerprint());
    if (!generation.ok()) {
      if (absl::IsFailedPrecondition(generation.status())) return generation.status();
      DOPPEL_LOG(kError, "generation ", number, " cannot be served: ", generation.status().ToString());
      damaged_[number] = generation.status();
      continue;
    }
    if (number != state_.active()) {
      DOPPEL_LOG(kError, "serving generation ", number, " instead of ", state_.active());
    }
    loaded_[number] = *generation;
    active_.Publish(*std::move(generation));
    return absl::OkStatus();
  }
  DOPPEL_LOG(kError, "no published generation is intact; recluster to make a new one");
  return absl::OkStatus();
}

absl::Status GenerationManager::TakeUpOperation() {
  const MinerState::OperationRecord* running = state_.Running();
  if (running == nullptr) return absl::OkStatus();
  const v1::OperationStarted started = running->started;
  if (state_.published().count(started.generation()) == 0) {
    DOPPEL_LOG(kInfo, "taking up ", started.id(), " again");
    StartJob(started);
    return absl::OkStatus();
  }
  // The crash fell between the facts that end an operation.
  std::vector<v1::MinerUpdate> rest;
  if (!started.request().keep_active() && state_.active() != started.generation()) {
    rest.push_back(Activated(started.generation()));
  }
  rest.push_back(Ended(started, SecondsSince(started.started_at())));
  return Record(rest);
}

absl::Status GenerationManager::Record(const std::vector<v1::MinerUpdate>& updates) {
  MinerState next = state_;
  for (const v1::MinerUpdate& update : updates) RETURN_IF_ERROR(next.Apply(update));
  RETURN_IF_ERROR(journal_->Append(updates));
  state_ = std::move(next);
  return absl::OkStatus();
}

double GenerationManager::SecondsSince(const std::string& started_at) const {
  absl::Time start;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, started_at, &start, &error)) return 0;
  return std::max(0.0, absl::ToDoubleSeconds(options_.clock->Now() - start));
}

// ---- generations

v1::GenerationInfo GenerationManager::WithActive(v1::GenerationInfo info) const {
  const std::shared_ptr<const Generation> active = active_.Get();
  info.set_active(active != nullptr && active->number() == info.generation());
  return info;
}

absl::StatusOr<std::shared_ptr<const Generation>> GenerationManager::GetGeneration(uint64_t number) const {
  std::shared_ptr<const Generation> active = active_.Get();
  if (number == 0 && active == nullptr) {
    return absl::FailedPreconditionError("no generation is active yet; recluster first");
  }
  if (active != nullptr && (number == 0 || number == active->number())) return active;
  {
    absl::MutexLock lock(&mutex_);
    if (state_.published().count(number) == 0) {
      return absl::NotFoundError(
          absl::StrCat("generation ", number, " does not exist; list the generations"));
    }
    if (std::shared_ptr<const Generation> generation = loaded_[number].lock()) return generation;
  }
  // Reads every byte: without the lock.
  ASSIGN_OR_RETURN(std::shared_ptr<const Generation> generation,
                   store_->Load(number, options_.catalog->fingerprint()));
  absl::MutexLock lock(&mutex_);
  loaded_[number] = generation;
  return generation;
}

std::vector<v1::GenerationInfo> GenerationManager::ListGenerations() const {
  absl::MutexLock lock(&mutex_);
  std::vector<v1::GenerationInfo> list;
  for (const auto& [number, info] : infos_) {
    if (damaged_.count(number) == 0) list.push_back(WithActive(info));
  }
  return list;
}

absl::StatusOr<v1::GenerationInfo> GenerationManager::Activate(uint64_t number) {
  if (number == 0) return absl::InvalidArgumentError("generation: 0; name the generation to activate");
  ASSIGN_OR_RETURN(std::shared_ptr<const Generation> generation, GetGeneration(number));
  absl::MutexLock lock(&mutex_);
  if (state_.active() != number) RETURN_IF_ERROR(Record({Activated(number)}));
  // An operator may have restored the files of a damaged one.
  damaged_.erase(number);
  infos_[number] = generation->info();
  active_.Publish(generation);
  return WithActive(generation->info());
}

// ---- operations

absl::StatusOr<v1::ReclusterRequest> GenerationManager::Settle(const v1::ReclusterRequest& request) const {
  v1::ReclusterRequest settled = request;
  if (!request.model_path().empty()) {
    std::string path = request.model_path();
    if (options_.resolve_model) {
      ASSIGN_OR_RETURN(path, options_.resolve_model(path));
    }
    // A restart may happen in another working directory.
    std::error_code error;
    const std::filesystem::path absolute = std::filesystem::absolute(path, error);
    settled.set_model_path(error ? path : absolute.string());
  }
  ASSIGN_OR_RETURN(const ResolvedRequest resolved, ResolveRequest(settled, *options_.catalog, *options_.fs));
  const v1::RepresentationSource& source = resolved.request.representation_source();
  if (source.kind() == v1::RepresentationSource::KIND_LIVE) {
    if (environment_.live == nullptr)
      return absl::FailedPreconditionError("live: this miner keeps no live representations");
    RETURN_IF_ERROR(environment_.live->CheckCoverage(
        {resolved.split.first_identity, resolved.split.identities}, source.min_coverage()));
  }
  return settled;
}

absl::StatusOr<v1::Operation> GenerationManager::Recluster(const v1::ReclusterRequest& request) {
  v1::OperationStarted started;
  ASSIGN_OR_RETURN(*started.mutable_request(), Settle(request));
  started.set_started_at(FormatUtc(options_.clock->Now()));
  absl::MutexLock lock(&mutex_);
  if (job_ != nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat(job_->started().id(), " is running; wait for it or cancel it first"));
  }
  RETURN_IF_ERROR(unrecorded_end_);
  // Directories count too, should the journal have been lost.
  ASSIGN_OR_RETURN(const std::vector<uint64_t> numbers, store_->Numbers());
  const uint64_t number = std::max(state_.last_number(), numbers.empty() ? 0 : numbers.back()) + 1;
  started.set_generation(number);
  started.set_id(absl::StrCat("recluster-", number));
  v1::MinerUpdate update;
  *update.mutable_operation_started() = started;
  RETURN_IF_ERROR(Record({update}));
  StartJob(started);
  return Describe(*state_.Find(started.id()));
}

void GenerationManager::StartJob(const v1::OperationStarted& started) {
  // The last job's thread, if there was one, has given the lock up for good.
  if (thread_.joinable()) thread_.join();
  job_ = std::make_shared<BuildJob>(environment_, started);
  thread_ = std::thread([this, job = job_] { RunJob(job); });
}

void GenerationManager::RunJob(const std::shared_ptr<BuildJob>& job) {
  const uint64_t number = job->started().generation();
  absl::StatusOr<v1::GenerationInfo> info = job->Run();
  std::shared_ptr<const Generation> generation;
  absl::Status status = info.status();
  if (status.ok()) {
    absl::StatusOr<std::shared_ptr<const Generation>> loaded =
        store_->Load(number, options_.catalog->fingerprint());
    status = loaded.status();
    if (loaded.ok()) generation = *std::move(loaded);
    const absl::Status removed =
        RemoveOldPasses(*options_.fs, environment_.representations_directory, kPassesKept);
    if (!removed.ok()) DOPPEL_LOG(kWarning, "old representation passes remain: ", removed.ToString());
  }
  absl::MutexLock lock(&mutex_);
  if (!stopping_) {
    // A cancellation that was acknowledged before the generation became visible still holds.
    if (status.ok() && !job->Interruption().ok()) {
      status = job->Interruption();
      generation = nullptr;
      const absl::Status removed = store_->Remove(number);
      if (!removed.ok()) DOPPEL_LOG(kWarning, removed.ToString());
    }
    if (status.ok()) status = Publish(*job, *info, generation);
    if (!status.ok()) {
      const absl::Status recorded = RecordFailure(*job, status);
      if (!recorded.ok()) unrecorded_end_ = recorded;
    }
  }
  job_ = nullptr;
}

absl::Status GenerationManager::Publish(const BuildJob& job, const v1::GenerationInfo& info,
                                        std::shared_ptr<const Generation> generation) {
  const v1::OperationStarted& started = job.started();
  const uint64_t number = started.generation();
  const bool activate = !started.request().keep_active();
  const double seconds = SecondsSince(started.started_at());
  std::vector<v1::MinerUpdate> updates = {Published(number)};
  if (activate) updates.push_back(Activated(number));
  updates.push_back(Ended(started, seconds));
  RETURN_IF_ERROR(Record(updates));
  infos_[number] = info;
  loaded_[number] = generation;
  if (activate) active_.Publish(std::move(generation));
  DOPPEL_LOG(kInfo, started.id(), ": published generation ", number, activate ? ", now active, " : ", ",
             info.subspaces(), " subspaces of ", info.identities(), " identities in ", seconds, " s");
  return absl::OkStatus();
}

absl::Status GenerationManager::RecordFailure(const BuildJob& job, const absl::Status& why) {
  const bool cancelled = absl::IsCancelled(job.Interruption());
  v1::MinerUpdate update = Ended(job.started(), SecondsSince(job.started().started_at()));
  v1::OperationEnded& ended = *update.mutable_operation_ended();
  ended.set_state(cancelled ? v1::Operation::STATE_CANCELLED : v1::Operation::STATE_FAILED);
  ended.set_generation(0);
  ended.set_error(cancelled ? std::string(why.message()) : why.ToString());
  if (cancelled) {
    DOPPEL_LOG(kInfo, job.started().id(), " was cancelled");
  } else {
    DOPPEL_LOG(kError, job.started().id(), " failed: ", why.ToString());
  }
  return Record({update});
}

v1::Operation GenerationManager::Describe(const MinerState::OperationRecord& record) const {
  v1::Operation operation;
  operation.set_id(record.started.id());
  *operation.mutable_request() = record.started.request();
  operation.set_started_at(record.started.started_at());
  if (record.ended) {
    operation.set_state(record.ended->state());
    operation.set_error(record.ended->error());
    operation.set_generation(record.ended->generation());
    operation.set_elapsed_seconds(record.ended->elapsed_seconds());
    return operation;
  }
  operation.set_elapsed_seconds(SecondsSince(record.started.started_at()));
  if (job_ == nullptr) {
    operation.set_state(v1::Operation::STATE_FAILED);
    operation.set_error(unrecorded_end_.ToString());
    return operation;
  }
  const BuildJob::Progress progress = job_->progress();
  operation.set_state(v1::Operation::STATE_RUNNING);
  operation.set_phase(progress.phase);
  operation.set_done(progress.done);
  operation.set_total(progress.total);
  operation.set_eta_seconds(progress.eta_seconds);
  return operation;
}

absl::StatusOr<v1::Operation> GenerationManager::GetOperation(const std::string& id) const {
  absl::MutexLock lock(&mutex_);
  const MinerState::OperationRecord* record = state_.Find(id);
  if (record == nullptr) return NoSuchOperation(id);
  return Describe(*record);
}

absl::StatusOr<v1::Operation> GenerationManager::WaitOperation(const std::string& id,
                                                               absl::Duration timeout) const {
  absl::MutexLock lock(&mutex_);
  if (state_.Find(id) == nullptr) return NoSuchOperation(id);
  const auto over = [this, &id]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return job_ == nullptr || state_.Find(id)->ended.has_value();
  };
  mutex_.AwaitWithTimeout(absl::Condition(&over), timeout);
  return Describe(*state_.Find(id));
}

absl::StatusOr<v1::Operation> GenerationManager::CancelOperation(const std::string& id) {
  absl::MutexLock lock(&mutex_);
  const MinerState::OperationRecord* record = state_.Find(id);
  if (record == nullptr) return NoSuchOperation(id);
  if (!record->ended && job_ != nullptr) job_->Interrupt(absl::CancelledError("cancelled by request"));
  return Describe(*record);
}

std::vector<v1::Operation> GenerationManager::ListOperations() const {
  absl::MutexLock lock(&mutex_);
  std::vector<v1::Operation> list;
  for (const MinerState::OperationRecord& record : state_.operations()) list.push_back(Describe(record));
  return list;
}

std::string GenerationManager::DebugState() const {
  absl::MutexLock lock(&mutex_);
  return state_.DebugString();
}

// ---- leases: the job has locks of its own

std::shared_ptr<BuildJob> GenerationManager::Job() const {
  absl::MutexLock lock(&mutex_);
  return job_;
}

std::string GenerationManager::RunningModel() const {
  const std::shared_ptr<BuildJob> job = Job();
  return job == nullptr ? "" : job->started().request().model_path();
}

absl::StatusOr<v1::LeaseRangeResponse> GenerationManager::LeaseRange(const v1::LeaseRangeRequest& request) {
  v1::LeaseRangeResponse response;
  const std::shared_ptr<BuildJob> job = Job();
  std::optional<v1::EmbeddingLease> lease;
  if (job != nullptr) lease = job->LeaseRange(request.worker());
  if (lease) {
    *response.mutable_lease() = *std::move(lease);
  } else {
    response.set_retry_after_seconds(kLeaseRetrySeconds);
  }
  return response;
}

absl::StatusOr<v1::RenewLeaseResponse> GenerationManager::RenewLease(const v1::RenewLeaseRequest& request) {
  const std::shared_ptr<BuildJob> job = Job();
  if (job == nullptr) {
    return absl::NotFoundError(absl::StrCat("lease ", request.lease(), ": its job is gone; drop its work"));
  }
  return job->RenewLease(request.lease());
}

absl::StatusOr<v1::CommitRangeResponse> GenerationManager::CommitRange(
    const v1::CommitRangeRequest& request) {
  const std::shared_ptr<BuildJob> job = Job();
  if (job != nullptr && job->started().id() == request.operation()) return job->CommitRange(request);
  absl::MutexLock lock(&mutex_);
  const MinerState::OperationRecord* record = state_.Find(request.operation());
  if (record == nullptr) return NoSuchOperation(request.operation());
  // It had all its ranges, this one too.
  if (record->ended && record->ended->state() == v1::Operation::STATE_SUCCEEDED)
    return v1::CommitRangeResponse();
  return absl::NotFoundError(absl::StrCat(request.operation(), " has ended; drop the range"));
}

}  // namespace doppel
