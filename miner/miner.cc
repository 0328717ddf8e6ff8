#include "miner/miner.h"

#include <utility>

#include "common/base/status_macros.h"
#include "miner/clustering/faiss_clusterer.h"
#include "miner/generation/generation_manager.h"

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
  absl::StatusOr<v1::GenerationInfo> Activate(uint64_t number) override { return manager_->Activate(number); }

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
  ASSIGN_OR_RETURN(std::unique_ptr<GenerationManager> opened, GenerationManager::Open(std::move(manager)));
  return std::make_unique<MinerImpl>(std::move(opened));
}

}  // namespace doppel
