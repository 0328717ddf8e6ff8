#include "miner/miner.h"

#include <utility>

#include "common/base/status_macros.h"
#include "miner/clustering/faiss_clusterer.h"
#include "miner/generation/generation_manager.h"
#include "miner/neighbours/identity_neighbours.h"

namespace doppel {
namespace {

class MinerImpl : public Miner {
 public:
  explicit MinerImpl(std::unique_ptr<GenerationManager> manager) : manager_(std::move(manager)) {}

  std::shared_ptr<const Catalog> catalog() const override { return manager_->catalog(); }

  std::shared_ptr<const Generation> ActiveGeneration() const override { return manager_->ActiveGeneration(); }
  absl::StatusOr<std::shared_ptr<const Generation>> GetGeneration(uint64_t number) const override {
    return manager_->GetGeneration(number);
  }
  std::vector<v1::GenerationInfo> ListGenerations() const override { return manager_->ListGenerations(); }
  absl::StatusOr<v1::GenerationInfo> DescribeGeneration(uint64_t number) const override {
    return manager_->DescribeGeneration(number);
  }
  absl::StatusOr<v1::GenerationInfo> Activate(uint64_t number) override { return manager_->Activate(number); }
  absl::StatusOr<v1::GenerationInfo> Rollback(bool dry_run) override { return manager_->Rollback(dry_run); }
  absl::StatusOr<v1::GenerationInfo> Retire(uint64_t number, bool dry_run) override {
    return manager_->Retire(number, dry_run);
  }
  absl::StatusOr<v1::GenerationInfo> Pin(uint64_t number, bool pinned) override {
    return manager_->Pin(number, pinned);
  }
  absl::StatusOr<v1::GenerationInfo> PublishGuardList(uint64_t base, const GuardList& guard_list,
                                                      const std::string& note) override {
    return manager_->PublishGuardList(base, guard_list, note);
  }
  const EventLog& events() const override { return manager_->events(); }

  absl::StatusOr<v1::Operation> Recluster(const v1::ReclusterRequest& request) override {
    return manager_->Recluster(request);
  }
  absl::StatusOr<v1::Operation> GetOperation(const std::string& id) const override {
    return manager_->GetOperation(id);
  }
  absl::StatusOr<v1::Operation> WaitOperation(const std::string& id, absl::Duration timeout) const override {
    return manager_->WaitOperation(id, timeout);
  }
  absl::StatusOr<v1::Operation> CancelOperation(const std::string& id) override {
    return manager_->CancelOperation(id);
  }
  std::vector<v1::Operation> ListOperations() const override { return manager_->ListOperations(); }

  absl::StatusOr<v1::ReclusterPolicySpec> SetPolicy(const v1::ReclusterPolicySpec& spec) override {
    return manager_->SetPolicy(spec);
  }
  v1::GetPolicyResponse GetPolicy() override { return manager_->GetPolicy(); }
  void SetTrainingSource(TrainingSource source) override { manager_->SetTrainingSource(std::move(source)); }

  absl::StatusOr<v1::LeaseRangeResponse> LeaseRange(const v1::LeaseRangeRequest& request) override {
    return manager_->LeaseRange(request);
  }
  absl::StatusOr<v1::RenewLeaseResponse> RenewLease(const v1::RenewLeaseRequest& request) override {
    return manager_->RenewLease(request);
  }
  absl::StatusOr<v1::CommitRangeResponse> CommitRange(const v1::CommitRangeRequest& request) override {
    return manager_->CommitRange(request);
  }

 private:
  const std::unique_ptr<GenerationManager> manager_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Miner>> Miner::Open(MinerOptions options) {
  if (options.catalog == nullptr) return absl::InvalidArgumentError("catalog: none given");
  GenerationManager::Options manager;
  manager.catalog = std::move(options.catalog);
  manager.state_directory = std::move(options.state_directory);
  manager.fs = options.fs;
  manager.clock = options.clock;
  manager.clusterer = MakeFaissClusterer();
  manager.cluster_threads = options.cluster_threads;
  manager.lease_identities = options.lease_identities;
  manager.lease_duration = options.lease_duration;
  manager.find_neighbours = FindIdentityNeighbours;
  manager.keep_generations = options.keep_generations;
  manager.nice = options.cluster_nice;
  manager.policy = std::move(options.policy);
  manager.policy_interval = options.policy_interval;
  ASSIGN_OR_RETURN(std::unique_ptr<GenerationManager> opened, GenerationManager::Open(std::move(manager)));
  return std::make_unique<MinerImpl>(std::move(opened));
}

}  // namespace doppel
