#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
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
#include "miner/clustering/clusterer.h"
#include "miner/generation/build_job.h"
#include "miner/generation/generation.h"
#include "miner/generation/generation_store.h"
#include "miner/generation/journal.h"
#include "miner/generation/miner_state.h"
#include "miner/generation/state_lock.h"

namespace doppel {

// Owns the state directory, the job's thread and the generation that is served. Every change is journalled
// before it is applied and acknowledged. Thread-safe; the contract of the methods is miner.h's.
//
//   <state>/LOCK             held by flock
//   <state>/CATALOG          fingerprint of the catalog that the directory is bound to
//   <state>/journal.rec      MinerUpdate records
//   <state>/generations/     generation_store.h
//   <state>/representations/ representation_store.h
class GenerationManager {
 public:
  struct Options {
    std::shared_ptr<const Catalog> catalog;
    std::string state_directory;
    FileSystem* fs = nullptr;      // not owned
    const Clock* clock = nullptr;  // not owned
    std::unique_ptr<Clusterer> clusterer;
    int cluster_threads = 0;
    uint64_t lease_identities = 1024;
    absl::Duration lease_duration = absl::Seconds(60);
    // Called when the directory is ours, before any job: what else lies in it is opened. Returns the live
    // representations, not owned; null: there are none.
    std::function<absl::StatusOr<const RunningMeanManager*>()> open_stores;
    // The directory that a request's model_path means: its own, or one of the model store.
    std::function<absl::StatusOr<std::string>(const std::string&)> resolve_model;
  };
  static absl::StatusOr<std::unique_ptr<GenerationManager>> Open(Options options);
  // Stops the job's thread without journalling an end.
  ~GenerationManager();

  const std::shared_ptr<const Catalog>& catalog() const { return options_.catalog; }
  std::shared_ptr<const Generation> ActiveGeneration() const { return active_.Get(); }
  absl::StatusOr<std::shared_ptr<const Generation>> GetGeneration(uint64_t number) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<v1::GenerationInfo> ListGenerations() const ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<v1::GenerationInfo> Activate(uint64_t number) ABSL_LOCKS_EXCLUDED(mutex_);

  absl::StatusOr<v1::Operation> Recluster(const v1::ReclusterRequest& request) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<v1::Operation> GetOperation(const std::string& id) const ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<v1::Operation> WaitOperation(const std::string& id, absl::Duration timeout) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<v1::Operation> CancelOperation(const std::string& id) ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<v1::Operation> ListOperations() const ABSL_LOCKS_EXCLUDED(mutex_);

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
  absl::Status BindCatalog(bool has_history);
  absl::Status LoadGenerations() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status TakeUpOperation() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Record(const std::vector<v1::MinerUpdate>& updates) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StartJob(const v1::OperationStarted& started) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RunJob(const std::shared_ptr<BuildJob>& job) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Publish(const BuildJob& job, const v1::GenerationInfo& info,
                       std::shared_ptr<const Generation> generation) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status RecordFailure(const BuildJob& job, const absl::Status& why)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  v1::Operation Describe(const MinerState::OperationRecord& record) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  v1::GenerationInfo WithActive(v1::GenerationInfo info) const;
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
  PublishedPtr<Generation> active_;

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
};

}  // namespace doppel
