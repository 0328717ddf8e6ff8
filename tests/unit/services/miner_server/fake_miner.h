#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "miner/miner.h"

namespace doppel {

// A miner with generations and operations put in by the test. Thread-safe.
class FakeMiner : public Miner {
 public:
  explicit FakeMiner(std::shared_ptr<const Catalog> catalog) : catalog_(std::move(catalog)) {}

  void AddGeneration(std::shared_ptr<const Generation> generation) {
    absl::MutexLock lock(&mutex_);
    active_ = generation->number();
    generations_[active_] = std::move(generation);
  }
  void SetOperation(const v1::Operation& operation) {
    absl::MutexLock lock(&mutex_);
    operations_[operation.id()] = operation;
  }

  std::shared_ptr<const Catalog> catalog() const override { return catalog_; }
  std::shared_ptr<const Generation> ActiveGeneration() const override {
    absl::MutexLock lock(&mutex_);
    auto found = generations_.find(active_);
    return found == generations_.end() ? nullptr : found->second;
  }
  absl::StatusOr<std::shared_ptr<const Generation>> GetGeneration(uint64_t number) const override {
    absl::MutexLock lock(&mutex_);
    auto found = generations_.find(number == 0 ? active_ : number);
    if (found == generations_.end())
      return absl::NotFoundError(absl::StrCat("generation ", number, " does not exist"));
    return found->second;
  }
  std::vector<v1::GenerationInfo> ListGenerations() const override {
    absl::MutexLock lock(&mutex_);
    std::vector<v1::GenerationInfo> infos;
    for (const auto& [number, generation] : generations_) {
      infos.push_back(generation->info());
      infos.back().set_active(number == active_);
    }
    return infos;
  }
  absl::StatusOr<v1::GenerationInfo> Activate(uint64_t number) override {
    absl::MutexLock lock(&mutex_);
    auto found = generations_.find(number);
    if (found == generations_.end())
      return absl::NotFoundError(absl::StrCat("generation ", number, " does not exist"));
    active_ = number;
    v1::GenerationInfo info = found->second->info();
    info.set_active(true);
    return info;
  }

  absl::StatusOr<v1::GenerationInfo> DescribeGeneration(uint64_t number) const override {
    const auto generation = GetGeneration(number);
    if (!generation.ok()) return generation.status();
    v1::GenerationInfo info = (*generation)->info();
    absl::MutexLock lock(&mutex_);
    info.set_active(info.generation() == active_);
    return info;
  }
  absl::StatusOr<v1::GenerationInfo> Rollback(bool dry_run) override {
    return dry_run ? DescribeGeneration(1) : Activate(1);
  }
  absl::StatusOr<v1::GenerationInfo> Retire(uint64_t number, bool dry_run) override {
    if (number == ActiveGeneration()->number()) return absl::FailedPreconditionError("it is active");
    const auto info = DescribeGeneration(number);
    absl::MutexLock lock(&mutex_);
    if (info.ok() && !dry_run) generations_.erase(number);
    return info;
  }
  absl::StatusOr<v1::GenerationInfo> Pin(uint64_t number, bool pinned) override {
    auto info = DescribeGeneration(number);
    if (info.ok()) info->set_pinned(pinned);
    return info;
  }
  absl::StatusOr<v1::GenerationInfo> PublishGuardList(uint64_t base, const GuardList&,
                                                      const std::string&) override {
    return DescribeGeneration(base);
  }
  const EventLog& events() const override { return events_; }
  void AddEvent(const v1::WatchResponse& event) { events_.Add(event); }
  absl::StatusOr<v1::ReclusterPolicySpec> SetPolicy(const v1::ReclusterPolicySpec& spec) override {
    const absl::Status valid = ReclusterPolicy::Validate(spec);
    if (!valid.ok()) return valid;
    absl::MutexLock lock(&mutex_);
    return policy_ = spec;
  }
  v1::GetPolicyResponse GetPolicy() override {
    absl::MutexLock lock(&mutex_);
    v1::GetPolicyResponse response;
    *response.mutable_policy() = policy_;
    response.set_batches_since_activation(training_ ? training_().batches_acknowledged : 0);
    return response;
  }
  void SetTrainingSource(TrainingSource source) override {
    absl::MutexLock lock(&mutex_);
    training_ = std::move(source);
  }

  absl::StatusOr<v1::Operation> Recluster(const v1::ReclusterRequest& request) override {
    absl::MutexLock lock(&mutex_);
    if (operations_.count("job") > 0)
      return absl::FailedPreconditionError("job runs: wait for it or cancel it");
    v1::Operation operation;
    operation.set_id("job");
    operation.set_state(v1::Operation::STATE_RUNNING);
    *operation.mutable_request() = request;
    return operations_["job"] = operation;
  }
  absl::StatusOr<v1::Operation> GetOperation(const std::string& id) const override {
    absl::MutexLock lock(&mutex_);
    auto found = operations_.find(id);
    if (found == operations_.end())
      return absl::NotFoundError(absl::StrCat("operation ", id, " does not exist"));
    return found->second;
  }
  absl::StatusOr<v1::Operation> WaitOperation(const std::string& id, absl::Duration) const override {
    return GetOperation(id);
  }
  absl::StatusOr<v1::Operation> CancelOperation(const std::string& id) override {
    absl::MutexLock lock(&mutex_);
    auto found = operations_.find(id);
    if (found == operations_.end())
      return absl::NotFoundError(absl::StrCat("operation ", id, " does not exist"));
    found->second.set_state(v1::Operation::STATE_CANCELLED);
    return found->second;
  }
  std::vector<v1::Operation> ListOperations() const override {
    absl::MutexLock lock(&mutex_);
    std::vector<v1::Operation> operations;
    for (const auto& [id, operation] : operations_) operations.push_back(operation);
    return operations;
  }

  void SetStalled(const std::string& id) {
    absl::MutexLock lock(&mutex_);
    stalled_ = id;
  }
  std::string StalledOperation() const override {
    absl::MutexLock lock(&mutex_);
    return stalled_;
  }

  absl::StatusOr<v1::LeaseRangeResponse> LeaseRange(const v1::LeaseRangeRequest& request) override {
    v1::LeaseRangeResponse response;
    response.mutable_lease()->set_lease(7);
    response.mutable_lease()->set_operation(request.worker());
    return response;
  }
  absl::StatusOr<v1::RenewLeaseResponse> RenewLease(const v1::RenewLeaseRequest& request) override {
    if (request.lease() != 7) return absl::NotFoundError("the lease has expired");
    v1::RenewLeaseResponse response;
    response.set_lease_seconds(3);
    return response;
  }
  absl::StatusOr<v1::CommitRangeResponse> CommitRange(const v1::CommitRangeRequest& request) override {
    v1::CommitRangeResponse response;
    response.set_accepted(request.representations().size() ==
                          4 * request.dimension() * request.identity_count());
    return response;
  }

 private:
  const std::shared_ptr<const Catalog> catalog_;
  mutable absl::Mutex mutex_;
  std::map<uint64_t, std::shared_ptr<const Generation>> generations_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, v1::Operation> operations_ ABSL_GUARDED_BY(mutex_);
  uint64_t active_ ABSL_GUARDED_BY(mutex_) = 0;
  v1::ReclusterPolicySpec policy_ ABSL_GUARDED_BY(mutex_);
  std::string stalled_ ABSL_GUARDED_BY(mutex_);
  TrainingSource training_ ABSL_GUARDED_BY(mutex_);
  EventLog events_{&Clock::Real()};
};

}  // namespace doppel
