#include "miner/generation/generation_manager.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog_version.h"
#include "common/io/atomic_file.h"
#include "miner/generation/facts.h"

namespace doppel {
namespace {

constexpr double kLeaseRetrySeconds = 0.5;

}  // namespace

GenerationManager::GenerationManager(Options options)
    : options_(std::move(options)),
      journal_path_(options_.state_directory + "/journal.rec"),
      events_(options_.clock) {
  catalog_.Publish(options_.catalog);
}

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
  if (policy_thread_.joinable()) policy_thread_.join();
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
                  options_.find_neighbours,
                  live,
                  [this] { return active_.Get(); }};
  absl::MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(journal_, Journal::Open(fs, journal_path_, state_));
  RETURN_IF_ERROR(BindCatalog(!state_.operations().empty()));
  RETURN_IF_ERROR(fs.MakeDirectories(environment_.representations_directory));
  RETURN_IF_ERROR(fs.SyncDirectory(directory));
  RETURN_IF_ERROR(FinishOperation());
  RETURN_IF_ERROR(RemoveLeftovers());
  RETURN_IF_ERROR(LoadGenerations());
  RETURN_IF_ERROR(TakeUpOperation());
  if (options_.policy_interval > absl::ZeroDuration()) {
    policy_thread_ = std::thread([this] { WatchPolicy(); });
  }
  return absl::OkStatus();
}

absl::Status GenerationManager::BindCatalog(bool has_history) {
  const std::string path = options_.state_directory + "/CATALOG";
  const std::string& fingerprint = options_.catalog->fingerprint();
  if (options_.fs->Exists(path)) {
    ASSIGN_OR_RETURN(const std::string text, options_.fs->ReadFile(path));
    const absl::string_view bound = absl::StripAsciiWhitespace(text);
    bool ours = false, of_bound = false;
    for (const uint64_t number : state_.published()) {
      const absl::StatusOr<v1::GenerationManifest> manifest = store_->ReadManifest(number);
      if (!manifest.ok()) continue;
      ours = ours || manifest->info().catalog_fingerprint() == fingerprint;
      of_bound = of_bound || manifest->info().catalog_fingerprint() == bound;
    }
    // Unless they are of a later version of it, too.
    if (ours && !of_bound && text != fingerprint + "\n") {
      DOPPEL_LOG(kError, path, ": damaged, it says \"", absl::CEscape(text),
                 "\"; there are generations of this catalog, so it is written anew");
      return WriteFileAtomically(*options_.fs, path, fingerprint + "\n");
    }
    if (bound == fingerprint) return absl::OkStatus();
    if (has_history && !HasVersion(*options_.catalog, bound)) {
      return absl::FailedPreconditionError(absl::StrCat(
          options_.state_directory, ": its generations were made of the catalog with fingerprint ", bound,
          ", but the catalog ", options_.catalog->directory(), " has ", fingerprint,
          "; give each catalog a state directory of its own"));
    }
  }
  return WriteFileAtomically(*options_.fs, path, fingerprint + "\n");
}

void GenerationManager::RefreshCatalog() {
  if (!options_.reopen_catalog) return;
  absl::MutexLock lock(&refreshing_);
  absl::StatusOr<std::shared_ptr<const Catalog>> newest = options_.reopen_catalog();
  absl::Status status = newest.status();
  if (status.ok()) status = TakeUpCatalog(*std::move(newest));
  if (!status.ok()) DOPPEL_LOG(kWarning, "the catalog stays what it was at the start: ", status.ToString());
}

absl::Status GenerationManager::TakeUpCatalog(std::shared_ptr<const Catalog> newest) {
  const std::shared_ptr<const Catalog> current = catalog_.Get();
  if (newest->fingerprint() == current->fingerprint()) return absl::OkStatus();
  if (!HasVersion(*newest, current->fingerprint())) {
    return absl::FailedPreconditionError(
        absl::StrCat(newest->directory(), " holds another catalog now (", newest->fingerprint(),
                     "), not a new "
                     "version of ",
                     current->fingerprint(), "; give each catalog a state directory of its own"));
  }
  if (options_.on_new_catalog) RETURN_IF_ERROR(options_.on_new_catalog(*newest));
  RETURN_IF_ERROR(
      WriteFileAtomically(*options_.fs, options_.state_directory + "/CATALOG", newest->fingerprint() + "\n"));
  DOPPEL_LOG(kInfo, "took up version ", newest->fingerprint(), " of the catalog: ", newest->num_identities(),
             " identities, there were ", current->num_identities());
  catalog_.Publish(std::move(newest));
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const Generation>> GenerationManager::LoadFiles(uint64_t number) const {
  const std::shared_ptr<const Catalog> catalog = catalog_.Get();
  ASSIGN_OR_RETURN(const v1::GenerationManifest manifest, store_->ReadManifest(number));
  const std::string& made_of = manifest.info().catalog_fingerprint();
  return store_->Load(number, HasVersion(*catalog, made_of) ? made_of : catalog->fingerprint());
}

BuildEnvironment GenerationManager::Environment() const {
  BuildEnvironment environment = environment_;
  environment.catalog = catalog_.Get();
  return environment;
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
    absl::StatusOr<std::shared_ptr<const Generation>> generation = LoadFiles(number);
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

absl::Status GenerationManager::FinishOperation() {
  if (state_.half_derived() != 0) RETURN_IF_ERROR(Record({ActivatedFact(state_.half_derived())}));
  const MinerState::OperationRecord* running = state_.Running();
  if (running == nullptr) return absl::OkStatus();
  const v1::OperationStarted started = running->started;
  if (state_.published().count(started.generation()) == 0) return absl::OkStatus();
  // The crash fell between the facts that end an operation.
  std::vector<v1::MinerUpdate> rest;
  if (!started.request().keep_active() && state_.active() != started.generation()) {
    rest.push_back(ActivatedFact(started.generation()));
  }
  rest.push_back(EndedFact(started, SecondsSince(started.started_at())));
  return Record(rest);
}

absl::Status GenerationManager::RemoveLeftovers() {
  ASSIGN_OR_RETURN(const std::vector<uint64_t> numbers, store_->Numbers());
  const MinerState::OperationRecord* running = state_.Running();
  for (const uint64_t number : numbers) {
    // Numbers that the journal never gave out are none of its business.
    if (number > state_.last_number() || state_.published().count(number) > 0) continue;
    if (running != nullptr && running->started.generation() == number) continue;
    DOPPEL_LOG(kInfo, "removing what is left of generation ", number);
    RETURN_IF_ERROR(store_->Remove(number));
  }
  return absl::OkStatus();
}

absl::Status GenerationManager::TakeUpOperation() {
  if (const MinerState::OperationRecord* running = state_.Running()) {
    DOPPEL_LOG(kInfo, "taking up ", running->started.id(), " again");
    StartJob(v1::OperationStarted(running->started));
  } else if (!state_.queued().empty()) {
    const v1::OperationStarted started = state_.queued().front().started;
    RETURN_IF_ERROR(Record({StartedFact(started)}));
    StartJob(started);
  }
  return absl::OkStatus();
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
  if (record == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("operation \"", request.operation(), "\" is unknown; list the operations"));
  }
  // It had all its ranges, this one too.
  if (record->ended && record->ended->state() == v1::Operation::STATE_SUCCEEDED)
    return v1::CommitRangeResponse();
  return absl::NotFoundError(absl::StrCat(request.operation(), " has ended; drop the range"));
}

}  // namespace doppel
