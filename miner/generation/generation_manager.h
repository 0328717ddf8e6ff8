#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/base/published_ptr.h"
#include "common/catalog/catalog.h"
#include "common/io/file_system.h"
#include "doppel/v1/embedding.pb.h"
#include "doppel/v1/mining.pb.h"
#include "miner/cleaning/guard_list.h"
#include "miner/clustering/clusterer.h"
#include "miner/generation/build_job.h"
#include "miner/generation/event_log.h"
#include "miner/generation/generation.h"
#include "miner/generation/generation_store.h"
#include "miner/generation/journal.h"
#include "miner/generation/miner_state.h"
#include "miner/generation/policy.h"
#include "miner/generation/state_lock.h"

namespace doppel {

// Owns the state directory, the job's thread and the generation that is served. Every change is journalled
// before it is applied and acknowledged. Thread-safe; the contract of the methods is miner.h's.
//
//   <state>/LOCK             held by flock
//   <state>/CATALOG          fingerprint of the catalog that the directory is bound to, its newest version
//   <state>/journal.rec      MinerUpdate records
//   <state>/generations/     generation_store.h
//   <state>/representations/ representation_store.h
class GenerationManager {
 public:
  struct Options {
    std::shared_ptr<const Catalog> catalog;
    // Opens the catalog as it lies there now, before a job starts: it may have a new version, which is taken
    // up. Null: it stays what it is.
    std::function<absl::StatusOr<std::shared_ptr<const Catalog>>()> reopen_catalog;
    // Called with a new version before anybody else sees it; an error leaves the old one in use.
    std::function<absl::Status(const Catalog&)> on_new_catalog;
    std::string state_directory;
    FileSystem* fs = nullptr;      // not owned
    const Clock* clock = nullptr;  // not owned
    std::unique_ptr<Clusterer> clusterer;
    int cluster_threads = 0;
    uint64_t lease_identities = 1024;
    absl::Duration lease_duration = absl::Seconds(60);
    // Null: generations have no neighbours.
    NeighbourSearch find_neighbours;
    // Published generations to keep besides the active, the previously active, the pinned ones and those that
    // somebody reads; 0: all.
    uint32_t keep_generations = 0;
    // Of the job's thread and of those that it starts.
    int nice = 0;
    // Until one is set.
    v1::ReclusterPolicySpec policy;
    // Zero: nobody looks but CheckPolicy.
    absl::Duration policy_interval = absl::ZeroDuration();
    // A job that shows no progress for so long is stalled; zero: never. Looked at in the same interval.
    absl::Duration stall_after = absl::ZeroDuration();
    // Such a job is ended, as failed.
    bool stall_cancel = false;
    // Called when the directory is ours, before any job: what else lies in it is opened. Returns the live
    // representations, not owned; null: there are none.
    std::function<absl::StatusOr<const RunningMeanManager*>()> open_stores;
    // The directory that a request's model_path means: its own, or one of the model store.
    std::function<absl::StatusOr<std::string>(const std::string&)> resolve_model;
  };
  static absl::StatusOr<std::unique_ptr<GenerationManager>> Open(Options options);
  // Stops the job's thread without journalling an end.
  ~GenerationManager();

  // The newest version that was taken up; generations of earlier ones are served all the same.
  std::shared_ptr<const Catalog> catalog() const { return catalog_.Get(); }
  std::shared_ptr<const Generation> ActiveGeneration() const { return active_.Get(); }
  absl::StatusOr<std::shared_ptr<const Generation>> GetGeneration(uint64_t number) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<v1::GenerationInfo> ListGenerations() const ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<v1::GenerationInfo> DescribeGeneration(uint64_t number) const ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<v1::GenerationInfo> Activate(uint64_t number) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<v1::GenerationInfo> Rollback(bool dry_run) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<v1::GenerationInfo> Retire(uint64_t number, bool dry_run) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<v1::GenerationInfo> Pin(uint64_t number, bool pinned) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<v1::GenerationInfo> PublishGuardList(uint64_t base, const GuardList& guard_list,
                                                      const std::string& note)
      ABSL_LOCKS_EXCLUDED(deriving_, mutex_);
  const EventLog& events() const { return events_; }

  absl::StatusOr<v1::Operation> Recluster(const v1::ReclusterRequest& request) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<v1::Operation> GetOperation(const std::string& id) const ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<v1::Operation> WaitOperation(const std::string& id, absl::Duration timeout) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<v1::Operation> CancelOperation(const std::string& id) ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<v1::Operation> ListOperations() const ABSL_LOCKS_EXCLUDED(mutex_);
  // The running operation if it is stalled; "": it is not.
  std::string StalledOperation() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Starts a job if the policy says so, and looks whether the one that runs is stalled.
  void Look() ABSL_LOCKS_EXCLUDED(mutex_);

  absl::StatusOr<v1::ReclusterPolicySpec> SetPolicy(const v1::ReclusterPolicySpec& spec)
      ABSL_LOCKS_EXCLUDED(mutex_);
  v1::GetPolicyResponse GetPolicy() ABSL_LOCKS_EXCLUDED(mutex_);
  // Null: nobody trains.
  void SetTrainingSource(TrainingSource source) ABSL_LOCKS_EXCLUDED(mutex_);
  // Starts a job if the policy says so.
  void CheckPolicy() ABSL_LOCKS_EXCLUDED(mutex_);

  absl::StatusOr<v1::LeaseRangeResponse> LeaseRange(const v1::LeaseRangeRequest& request)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<v1::RenewLeaseResponse> RenewLease(const v1::RenewLeaseRequest& request)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<v1::CommitRangeResponse> CommitRange(const v1::CommitRangeRequest& request)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // The model directory of the job that runs; empty if none does.
  std::string RunningModel() const ABSL_LOCKS_EXCLUDED(mutex_);

  // The control state as text, for tests and logs.
  std::string DebugState() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  explicit GenerationManager(Options options);
  absl::Status Load() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status BindCatalog(bool has_history) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes a new version up if there is one; says so, or why not, in the log.
  void RefreshCatalog() ABSL_LOCKS_EXCLUDED(refreshing_, mutex_);
  absl::Status TakeUpCatalog(std::shared_ptr<const Catalog> newest)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(refreshing_);
  // Of the catalog's current version or an earlier one.
  absl::StatusOr<std::shared_ptr<const Generation>> LoadFiles(uint64_t number) const;
  // For a job that starts now.
  BuildEnvironment Environment() const;
  absl::Status LoadGenerations() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Adds the facts that a crash left out.
  absl::Status FinishOperation() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status TakeUpOperation() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status RemoveLeftovers() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Record(const std::vector<v1::MinerUpdate>& updates) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<v1::Operation> Start(const v1::ReclusterRequest& request, const std::string& policy_reason)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<uint64_t> NextNumber() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StartJob(const v1::OperationStarted& started) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Until the queue is empty.
  void RunJobs(std::shared_ptr<BuildJob> job) ABSL_LOCKS_EXCLUDED(mutex_);
  // Returns the next one, which job_ is by then.
  std::shared_ptr<BuildJob> RunJob(const std::shared_ptr<BuildJob>& job, std::vector<uint64_t>* retired)
      ABSL_LOCKS_EXCLUDED(deriving_, mutex_);
  // Journals the start of the first in the queue; null if there is none, or it cannot be.
  std::shared_ptr<BuildJob> NextJob() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Maps what a job wrote, with the guard list that holds now.
  absl::StatusOr<std::shared_ptr<const Generation>> LoadWritten(uint64_t number)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(deriving_);
  absl::Status Publish(const BuildJob& job, std::shared_ptr<const Generation> generation)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status RecordDryRun(const BuildJob& job, const v1::GenerationInfo& statistics)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status RecordFailure(const BuildJob& job, const absl::Status& why)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Serves it from now on, and says so.
  void Serve(std::shared_ptr<const Generation> generation) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AddOperationEvent(const std::string& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckRetirable(uint64_t number) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Journals that those beyond keep_generations are retired.
  std::vector<uint64_t> RetireOld() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RemoveFiles(const std::vector<uint64_t>& numbers);
  void WatchPolicy() ABSL_LOCKS_EXCLUDED(mutex_);
  struct PolicyInputs {
    v1::ReclusterPolicySpec spec;
    v1::ReclusterRequest request;
    PolicyFacts facts;
  };
  PolicyInputs GatherPolicy() ABSL_LOCKS_EXCLUDED(mutex_);
  // Of the sampled check; at most every few seconds, and only after new reports.
  std::optional<double> CheckChurn(const Generation& active, absl::Time now) ABSL_LOCKS_EXCLUDED(mutex_);
  // Remembers what the job has done, and says so if that has not changed for stall_after.
  void WatchJob() ABSL_LOCKS_EXCLUDED(mutex_);
  v1::Operation Describe(const MinerState::OperationRecord& record) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // With what the journal says of it.
  v1::GenerationInfo WithState(v1::GenerationInfo info) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The request as it is journalled: with the model's directory, and refused if it cannot run.
  absl::StatusOr<v1::ReclusterRequest> Settle(const v1::ReclusterRequest& request) const;
  std::shared_ptr<BuildJob> Job() const ABSL_LOCKS_EXCLUDED(mutex_);
  double SecondsSince(const std::string& started_at) const;

  // Constant after Load.
  Options options_;
  std::string journal_path_;
  std::unique_ptr<StateLock> lock_;
  std::unique_ptr<GenerationStore> store_;
  BuildEnvironment environment_;

  // With locks of their own.
  PublishedPtr<Catalog> catalog_;
  PublishedPtr<Generation> active_;
  EventLog events_;

  // Held while a new version of the catalog is taken up.
  absl::Mutex refreshing_;
  // Held while the guard list of a generation is being settled: one that is published meanwhile must not be
  // lost.
  absl::Mutex deriving_ ABSL_ACQUIRED_BEFORE(mutex_);
  mutable absl::Mutex mutex_;
  MinerState state_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Journal> journal_ ABSL_GUARDED_BY(mutex_);
  // Of the published generations whose manifests are good; for the others, what is wrong with them.
  std::map<uint64_t, v1::GenerationInfo> infos_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, absl::Status> damaged_ ABSL_GUARDED_BY(mutex_);
  mutable std::map<uint64_t, std::weak_ptr<const Generation>> loaded_ ABSL_GUARDED_BY(mutex_);
  // Null when no job runs.
  std::shared_ptr<BuildJob> job_ ABSL_GUARDED_BY(mutex_);
  // Why an operation ended whose end could not be journalled.
  absl::Status unrecorded_end_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_ ABSL_GUARDED_BY(mutex_);
  // Highest number that was promised to a generation without an operation.
  uint64_t reserved_number_ ABSL_GUARDED_BY(mutex_) = 0;
  TrainingSource training_ ABSL_GUARDED_BY(mutex_);
  // What was acknowledged when the active generation became it.
  uint64_t counted_from_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string last_verdict_ ABSL_GUARDED_BY(mutex_);
  struct ChurnCheck {
    uint64_t generation = 0;
    uint64_t reports = 0;
    absl::Time at;
    std::optional<double> share;
  };
  ChurnCheck churn_ ABSL_GUARDED_BY(mutex_);
  // What the watchdog saw of the running job, and since when.
  struct JobMark {
    std::string seen;
    absl::Time since;
    bool stalled = false;

    bool IsStalled(const std::string& id) const {
      return stalled && seen.compare(0, id.size() + 1, id + " ") == 0;
    }
  };
  JobMark mark_ ABSL_GUARDED_BY(mutex_);
  std::thread policy_thread_;
};

}  // namespace doppel
