// GenerationManager: the jobs.
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "miner/generation/facts.h"
#include "miner/generation/generation_manager.h"

namespace doppel {
namespace {

constexpr size_t kPassesKept = 2;
constexpr size_t kMaxQueued = 16;

std::string FormatUtc(absl::Time time) {
  return absl::FormatTime("%Y-%m-%d%ET%H:%M:%E3SZ", time, absl::UTCTimeZone());
}

absl::Status NoSuchOperation(absl::string_view id) {
  return absl::NotFoundError(absl::StrCat("operation \"", id, "\" is unknown; list the operations"));
}

// Of this thread, and of those that it starts: Linux has it per thread.
void BeNice(int nice) {
  if (nice <= 0) return;
  if (setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), nice) != 0) {
    DOPPEL_LOG(kWarning, "the job cannot be made nice: ", std::strerror(errno));
  }
}

}  // namespace

absl::StatusOr<v1::Operation> GenerationManager::Recluster(const v1::ReclusterRequest& request) {
  return Start(request, "");
}

absl::StatusOr<uint64_t> GenerationManager::NextNumber() {
  // Directories count too, should the journal have been lost.
  ASSIGN_OR_RETURN(const std::vector<uint64_t> numbers, store_->Numbers());
  return std::max({state_.last_number(), reserved_number_, numbers.empty() ? 0 : numbers.back()}) + 1;
}

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
  ASSIGN_OR_RETURN(const ResolvedRequest resolved, ResolveRequest(settled, *catalog_.Get(), *options_.fs));
  const v1::RepresentationSource& source = resolved.request.representation_source();
  if (source.kind() == v1::RepresentationSource::KIND_LIVE) {
    if (environment_.live == nullptr)
      return absl::FailedPreconditionError("live: this miner keeps no live representations");
    RETURN_IF_ERROR(environment_.live->CheckCoverage(resolved.split.rows(), source.min_coverage()));
  }
  return settled;
}

absl::StatusOr<v1::Operation> GenerationManager::Start(const v1::ReclusterRequest& request,
                                                       const std::string& policy_reason) {
  RefreshCatalog();
  v1::OperationStarted started;
  ASSIGN_OR_RETURN(*started.mutable_request(), Settle(request));
  started.set_policy_reason(policy_reason);
  started.set_started_at(FormatUtc(options_.clock->Now()));
  absl::MutexLock lock(&mutex_);
  if (stopping_) return absl::UnavailableError("the miner stops; ask again when it is back");
  if (job_ != nullptr && !request.queue()) {
    return absl::FailedPreconditionError(
        absl::StrCat(job_->started().id(), " is running; wait for it, cancel it first, or queue this one"));
  }
  if (state_.queued().size() >= kMaxQueued) {
    return absl::FailedPreconditionError(
        absl::StrCat(state_.queued().size(), " operations are queued already; cancel some"));
  }
  RETURN_IF_ERROR(unrecorded_end_);
  ASSIGN_OR_RETURN(const uint64_t number, NextNumber());
  started.set_generation(number);
  started.set_id(absl::StrCat("recluster-", number));
  if (job_ != nullptr) {
    RETURN_IF_ERROR(Record({QueuedFact(started)}));
  } else {
    RETURN_IF_ERROR(Record({StartedFact(started)}));
    StartJob(started);
  }
  AddOperationEvent(started.id());
  return Describe(*state_.Find(started.id()));
}

void GenerationManager::StartJob(const v1::OperationStarted& started) {
  // The last job's thread, if there was one, has given the lock up for good.
  if (thread_.joinable()) thread_.join();
  job_ = std::make_shared<BuildJob>(Environment(), started);
  thread_ = std::thread([this, job = job_] { RunJobs(job); });
}

void GenerationManager::RunJobs(std::shared_ptr<BuildJob> job) {
  BeNice(options_.nice);
  while (job != nullptr) {
    std::vector<uint64_t> retired;
    job = RunJob(job, &retired);
    // From here on nothing takes the manager's lock: the next StartJob may be waiting for this thread.
    RemoveFiles(retired);
  }
}

std::shared_ptr<BuildJob> GenerationManager::NextJob() {
  if (stopping_ || state_.queued().empty() || !unrecorded_end_.ok()) return nullptr;
  const v1::OperationStarted started = state_.queued().front().started;
  const absl::Status recorded = Record({StartedFact(started)});
  if (!recorded.ok()) {
    DOPPEL_LOG(kError, started.id(), " waits on: ", recorded.ToString());
    return nullptr;
  }
  return std::make_shared<BuildJob>(Environment(), started);
}

std::shared_ptr<BuildJob> GenerationManager::RunJob(const std::shared_ptr<BuildJob>& job,
                                                    std::vector<uint64_t>* retired) {
  const uint64_t number = job->started().generation();
  const bool dry_run = job->started().request().dry_run();
  absl::StatusOr<v1::GenerationInfo> info = job->Run();
  std::shared_ptr<const Generation> generation;
  absl::Status status = info.status();
  if (status.ok()) {
    const absl::Status removed =
        RemoveOldPasses(*options_.fs, environment_.representations_directory, kPassesKept);
    if (!removed.ok()) DOPPEL_LOG(kWarning, "old representation passes remain: ", removed.ToString());
  }
  absl::MutexLock deriving(&deriving_);
  if (status.ok() && !dry_run) {
    absl::StatusOr<std::shared_ptr<const Generation>> loaded = LoadWritten(number);
    status = loaded.status();
    if (loaded.ok()) generation = *std::move(loaded);
  }
  absl::MutexLock lock(&mutex_);
  if (stopping_) return nullptr;
  // A cancellation that was acknowledged before the generation became visible still holds.
  if (status.ok() && !job->Interruption().ok()) {
    status = job->Interruption();
    generation = nullptr;
    const absl::Status removed = store_->Remove(number);
    if (!removed.ok()) DOPPEL_LOG(kWarning, removed.ToString());
  }
  if (status.ok()) status = dry_run ? RecordDryRun(*job, *info) : Publish(*job, std::move(generation));
  if (!status.ok()) {
    const absl::Status recorded = RecordFailure(*job, status);
    if (!recorded.ok()) unrecorded_end_ = recorded;
  }
  AddOperationEvent(job->started().id());
  *retired = RetireOld();
  job_ = NextJob();
  if (job_ != nullptr) AddOperationEvent(job_->started().id());
  return job_;
}

absl::Status GenerationManager::Publish(const BuildJob& job, std::shared_ptr<const Generation> generation) {
  const v1::OperationStarted& started = job.started();
  const uint64_t number = started.generation();
  const bool activate = !started.request().keep_active();
  const double seconds = SecondsSince(started.started_at());
  std::vector<v1::MinerUpdate> updates = {PublishedFact(number)};
  if (activate) updates.push_back(ActivatedFact(number));
  updates.push_back(EndedFact(started, seconds));
  RETURN_IF_ERROR(Record(updates));
  const v1::GenerationInfo info = generation->info();
  infos_[number] = info;
  loaded_[number] = generation;
  v1::WatchResponse event;
  *event.mutable_published() = info;
  events_.Add(std::move(event));
  if (activate) Serve(std::move(generation));
  DOPPEL_LOG(kInfo, started.id(), ": published generation ", number, activate ? ", now active, " : ", ",
             info.subspaces(), " subspaces of ", info.identities(), " identities in ", seconds, " s");
  return absl::OkStatus();
}

absl::Status GenerationManager::RecordDryRun(const BuildJob& job, const v1::GenerationInfo& statistics) {
  v1::MinerUpdate update = EndedFact(job.started(), SecondsSince(job.started().started_at()));
  update.mutable_operation_ended()->set_generation(0);
  *update.mutable_operation_ended()->mutable_statistics() = statistics;
  return Record({update});
}

absl::Status GenerationManager::RecordFailure(const BuildJob& job, const absl::Status& why) {
  const bool cancelled = absl::IsCancelled(job.Interruption());
  v1::MinerUpdate update = EndedFact(job.started(), SecondsSince(job.started().started_at()));
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

void GenerationManager::AddOperationEvent(const std::string& id) {
  const MinerState::OperationRecord* record = state_.Find(id);
  if (record == nullptr) return;
  v1::WatchResponse event;
  *event.mutable_operation() = Describe(*record);
  event.mutable_operation()->clear_statistics();
  events_.Add(std::move(event));
}

v1::Operation GenerationManager::Describe(const MinerState::OperationRecord& record) const {
  v1::Operation operation;
  operation.set_id(record.started.id());
  *operation.mutable_request() = record.started.request();
  operation.set_started_at(record.started.started_at());
  operation.set_policy_reason(record.started.policy_reason());
  if (record.ended) {
    operation.set_state(record.ended->state());
    operation.set_error(record.ended->error());
    operation.set_generation(record.ended->generation());
    operation.set_elapsed_seconds(record.ended->elapsed_seconds());
    if (record.ended->has_statistics()) *operation.mutable_statistics() = record.ended->statistics();
    return operation;
  }
  operation.set_elapsed_seconds(SecondsSince(record.started.started_at()));
  if (record.queued) {
    operation.set_state(v1::Operation::STATE_QUEUED);
    return operation;
  }
  if (job_ == nullptr || job_->started().id() != record.started.id()) {
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
  if (mark_.IsStalled(record.started.id())) {
    operation.set_stalled_seconds(absl::ToDoubleSeconds(options_.clock->Now() - mark_.since));
  }
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
  const absl::Status cancelled = absl::CancelledError("cancelled by request");
  if (record->queued) {
    v1::MinerUpdate update = EndedFact(v1::OperationStarted(record->started), 0);
    update.mutable_operation_ended()->set_state(v1::Operation::STATE_CANCELLED);
    update.mutable_operation_ended()->set_generation(0);
    update.mutable_operation_ended()->set_error(std::string(cancelled.message()));
    RETURN_IF_ERROR(Record({update}));
    AddOperationEvent(id);
  } else if (!record->ended && job_ != nullptr && job_->started().id() == id) {
    job_->Interrupt(cancelled);
  }
  return Describe(*state_.Find(id));
}

std::vector<v1::Operation> GenerationManager::ListOperations() const {
  absl::MutexLock lock(&mutex_);
  std::vector<v1::Operation> list;
  list.reserve(state_.operations().size() + state_.queued().size());
  for (const MinerState::OperationRecord& record : state_.operations()) {
    list.push_back(Describe(record));
    list.back().clear_statistics();
  }
  for (const MinerState::OperationRecord& record : state_.queued()) list.push_back(Describe(record));
  return list;
}

}  // namespace doppel
