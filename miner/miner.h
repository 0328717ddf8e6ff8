#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/catalog/catalog.h"
#include "common/io/file_system.h"
#include "doppel/v1/embedding.pb.h"
#include "doppel/v1/mining.pb.h"
#include "miner/cleaning/guard_list.h"
#include "miner/generation/event_log.h"
#include "miner/generation/generation.h"
#include "miner/generation/policy.h"
#include "miner/models/model_store.h"
#include "miner/representation/running_mean_manager.h"

namespace doppel {

struct MinerOptions {
  std::shared_ptr<const Catalog> catalog;
  // Opens the catalog as it lies there now, when a mining run is asked for: a new version is taken up. Null:
  // the catalog stays what it is.
  std::function<absl::StatusOr<std::shared_ptr<const Catalog>>()> reopen_catalog;
  std::string state_directory;
  FileSystem* fs = &PosixFileSystem();  // not owned
  const Clock* clock = &Clock::Real();  // not owned
  int cluster_threads = 0;
  uint64_t lease_identities = 1024;
  absl::Duration lease_duration = absl::Seconds(60);
  // Published generations to keep besides the active, the previously active, the pinned ones and those that
  // somebody reads; 0: all.
  uint32_t keep_generations = 0;
  int cluster_nice = 0;  // of a job's threads
  // Until one is set; looked at in this interval (zero: never).
  v1::ReclusterPolicySpec policy;
  absl::Duration policy_interval = absl::Seconds(2);
  // A job that shows no progress for so long is stalled; zero: never. Cancelling ends it as failed.
  absl::Duration stall_after = absl::ZeroDuration();
  bool stall_cancel = false;
  // Models that the store keeps, besides that of a running job; 0: all.
  size_t keep_models = 16;
  // Steps after which a reported embedding counts half in an identity's running mean; 0: nothing is
  // forgotten.
  double live_half_life = 100;
  // Between snapshots of the running means; 0: none but by hand.
  absl::Duration live_snapshot_interval = absl::Seconds(60);
};

// The façade that services call: generations, jobs, and the leases of embedders. Thread-safe. Opening it
// replays the journal of `state_directory`: a job that was running when the process died is taken up again
// (its committed ranges are kept), and the generation that was active is active.
class Miner {
 public:
  static absl::StatusOr<std::unique_ptr<Miner>> Open(MinerOptions options);
  // Cancels nothing durable: a running job goes on after the next Open.
  virtual ~Miner() = default;

  // The newest version that was taken up. A generation may be of an earlier one (its info says which; see
  // CatalogAtVersion).
  virtual std::shared_ptr<const Catalog> catalog() const = 0;

  // Null before the first one. Never waits for a writer.
  virtual std::shared_ptr<const Generation> ActiveGeneration() const = 0;
  // 0 means the active one. NOT_FOUND, FAILED_PRECONDITION (none yet).
  virtual absl::StatusOr<std::shared_ptr<const Generation>> GetGeneration(uint64_t number) const = 0;
  // Ascending; `active` is set on one.
  virtual std::vector<v1::GenerationInfo> ListGenerations() const = 0;
  // 0 means the active one.
  virtual absl::StatusOr<v1::GenerationInfo> DescribeGeneration(uint64_t number) const = 0;
  virtual absl::StatusOr<v1::GenerationInfo> Activate(uint64_t number) = 0;
  // Activates the one that was active before. FAILED_PRECONDITION if there is none. A dry run names it.
  virtual absl::StatusOr<v1::GenerationInfo> Rollback(bool dry_run) = 0;
  // Removes it from the disk; who has it may use it on. FAILED_PRECONDITION: it is active or pinned.
  virtual absl::StatusOr<v1::GenerationInfo> Retire(uint64_t number, bool dry_run) = 0;
  virtual absl::StatusOr<v1::GenerationInfo> Pin(uint64_t number, bool pinned) = 0;
  // A new generation that differs from `base` (0: the active one) in its guard list, with a note that says
  // why; active if `base` is. Later mining runs take the active generation's list over. INVALID_ARGUMENT: the
  // list names what the catalog does not have.
  virtual absl::StatusOr<v1::GenerationInfo> PublishGuardList(uint64_t base, const GuardList& guard_list,
                                                              const std::string& note) = 0;
  // What happened lately, for Watch.
  virtual const EventLog& events() const = 0;

  // Validates, journals, starts the job's thread and returns. FAILED_PRECONDITION if one runs and the request
  // is not to be queued.
  virtual absl::StatusOr<v1::Operation> Recluster(const v1::ReclusterRequest& request) = 0;
  virtual absl::StatusOr<v1::Operation> GetOperation(const std::string& id) const = 0;
  // Returns early when it is done.
  virtual absl::StatusOr<v1::Operation> WaitOperation(const std::string& id,
                                                      absl::Duration timeout) const = 0;
  virtual absl::StatusOr<v1::Operation> CancelOperation(const std::string& id) = 0;
  virtual std::vector<v1::Operation> ListOperations() const = 0;
  // The running operation if it makes no progress; "": it does, or there is none.
  virtual std::string StalledOperation() const { return ""; }

  virtual absl::StatusOr<v1::ReclusterPolicySpec> SetPolicy(const v1::ReclusterPolicySpec& spec) = 0;
  virtual v1::GetPolicyResponse GetPolicy() = 0;
  // Null: nobody trains. The one before is not called any more on return.
  virtual void SetTrainingSource(TrainingSource source) = 0;

  virtual absl::StatusOr<v1::LeaseRangeResponse> LeaseRange(const v1::LeaseRangeRequest& request) = 0;
  virtual absl::StatusOr<v1::RenewLeaseResponse> RenewLease(const v1::RenewLeaseRequest& request) = 0;
  virtual absl::StatusOr<v1::CommitRangeResponse> CommitRange(const v1::CommitRangeRequest& request) = 0;

  // What was published to this miner. Null: it has no store.
  virtual ModelStore* models() { return nullptr; }
  // A model of the store by name; by its hash, also the running job's.
  virtual absl::StatusOr<ModelContent> OpenModel(const std::string& name);
  // What trainers report. Null: nothing is kept.
  virtual RunningMeanManager* live() { return nullptr; }
};

}  // namespace doppel
