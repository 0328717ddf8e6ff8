#include "miner/miner.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "miner/clustering/faiss_clusterer.h"
#include "miner/generation/generation_manager.h"
#include "miner/neighbours/identity_neighbours.h"

namespace doppel {
namespace {

class MinerImpl : public Miner {
 public:
  static absl::StatusOr<std::unique_ptr<Miner>> Open(MinerOptions options);

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

  std::string StalledOperation() const override { return manager_->StalledOperation(); }

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

  ModelStore* models() override { return models_.get(); }
  absl::StatusOr<ModelContent> OpenModel(const std::string& name) override;
  RunningMeanManager* live() override { return live_.get(); }

 private:
  MinerImpl() = default;
  absl::Status OpenStores(const MinerOptions& options);
  // A model_path of a request: a name of the store, or a directory.
  absl::StatusOr<std::string> ModelDirectory(FileSystem& fs, const std::string& path) const;

  // The manager's job uses the others.
  std::unique_ptr<ModelStore> models_;
  std::unique_ptr<RunningMeanManager> live_;
  std::unique_ptr<GenerationManager> manager_;
};

absl::Status MinerImpl::OpenStores(const MinerOptions& options) {
  ModelStore::Options models;
  models.root = options.state_directory + "/models";
  models.fs = options.fs;
  models.clock = options.clock;
  models.keep = options.keep_models;
  models.in_use = [this](const std::string& hash) {
    return absl::EndsWith(manager_->RunningModel(), absl::StrCat("/", hash));
  };
  ASSIGN_OR_RETURN(models_, ModelStore::Open(std::move(models)));
  RunningMeanManager::Options live;
  live.fs = options.fs;
  live.clock = options.clock;
  live.directory = options.state_directory + "/live";
  live.catalog_fingerprint = options.catalog->fingerprint();
  live.identities = options.catalog->num_identities();
  for (const CatalogVersionInfo& version : options.catalog->earlier_versions())
    live.earlier_fingerprints.push_back(version.fingerprint);
  live.half_life = options.live_half_life;
  live.snapshot_interval = options.live_snapshot_interval;
  ASSIGN_OR_RETURN(live_, RunningMeanManager::Open(std::move(live)));
  return absl::OkStatus();
}

absl::StatusOr<std::string> MinerImpl::ModelDirectory(FileSystem& fs, const std::string& path) const {
  if (!ModelStore::IsName(path)) return path;
  const absl::StatusOr<v1::StoredModel> stored = models_->FindChecked(path);
  if (stored.ok()) return stored->directory();
  // A directory may have such a name.
  if (absl::IsNotFound(stored.status()) && fs.Exists(path)) return path;
  return stored.status();
}

absl::StatusOr<ModelContent> MinerImpl::OpenModel(const std::string& name) {
  const absl::StatusOr<v1::StoredModel> stored = models_->Find(name);
  if (stored.ok()) {
    ASSIGN_OR_RETURN(ModelContent content, ReadModelContent(stored->directory()));
    content.description.set_publisher(stored->publisher());
    return content;
  }
  const std::string running = manager_->RunningModel();
  if (absl::IsNotFound(stored.status()) && !running.empty()) {
    absl::StatusOr<ModelContent> content = ReadModelContent(running);
    if (content.ok() && content->description.hash() == name) return content;
  }
  return stored.status();
}

absl::StatusOr<std::unique_ptr<Miner>> MinerImpl::Open(MinerOptions options) {
  std::unique_ptr<MinerImpl> miner(new MinerImpl());
  GenerationManager::Options manager;
  manager.catalog = options.catalog;
  manager.reopen_catalog = options.reopen_catalog;
  manager.on_new_catalog = [raw = miner.get()](const Catalog& newest) {
    return raw->live_->ExtendTo(newest.fingerprint(), newest.num_identities());
  };
  manager.state_directory = options.state_directory;
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
  manager.stall_after = options.stall_after;
  manager.stall_cancel = options.stall_cancel;
  manager.open_stores = [raw = miner.get(), &options]() -> absl::StatusOr<const RunningMeanManager*> {
    RETURN_IF_ERROR(raw->OpenStores(options));
    return raw->live_.get();
  };
  manager.resolve_model = [raw = miner.get(), fs = options.fs](const std::string& path) {
    return raw->ModelDirectory(*fs, path);
  };
  ASSIGN_OR_RETURN(miner->manager_, GenerationManager::Open(std::move(manager)));
  return miner;
}

}  // namespace

absl::StatusOr<ModelContent> Miner::OpenModel(const std::string& name) {
  return absl::UnimplementedError(absl::StrCat("model ", name, ": this miner has no model store"));
}

absl::StatusOr<std::unique_ptr<Miner>> Miner::Open(MinerOptions options) {
  if (options.catalog == nullptr) return absl::InvalidArgumentError("catalog: none given");
  return MinerImpl::Open(std::move(options));
}

}  // namespace doppel
