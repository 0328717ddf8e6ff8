#pragma once

#include <functional>
#include <string>
#include <vector>

#include "services/ctl/mining_client.h"

namespace doppel {

// A miner in memory: two generations, of which 2 is active, and one job that a Recluster starts.
class FakeMiner : public MiningClient {
 public:
  FakeMiner() {
    for (const uint64_t number : {1, 2}) {
      v1::GenerationInfo& info = generations_.emplace_back();
      info.set_generation(number);
      info.set_created_at("2024-01-02T03:04:05Z");
      info.set_model_fingerprint("0123456789abcdef0123456789abcdef");
      info.set_identities(101740);
      info.set_subspaces(25);
      info.set_smallest_subspace(64);
      info.set_largest_subspace(9000);
      info.set_imbalance(2.25);
      info.add_objective(30000);
      info.add_objective(20000);
      info.set_active(number == 2);
      for (uint32_t s = 0; s < 25; ++s) info.add_subspace()->set_subspace(s);
    }
  }

  const std::string& address() const override { return address_; }
  const ClientSecurity& security() const override { return security_; }
  absl::StatusOr<v1::DescribeResponse> Describe() override {
    v1::DescribeResponse response;
    response.set_version("9.9");
    response.set_active_generation(2);
    response.set_identities(101740);
    response.add_streams()->set_client_name("trainer-a");
    return response;
  }
  absl::StatusOr<v1::Operation> Recluster(const v1::ReclusterRequest& request) override {
    requests.push_back(request);
    v1::Operation operation;
    operation.set_id("op-1");
    operation.set_state(v1::Operation::STATE_RUNNING);
    operation.set_phase("embed");
    operation.set_total(10);
    return operation;
  }
  absl::StatusOr<v1::Operation> GetOperation(const std::string& id) override {
    auto operation = Recluster({});
    requests.pop_back();
    return operation;
  }
  // The script: what each wait answers. The last one is repeated.
  absl::StatusOr<v1::Operation> WaitOperation(const std::string& id, absl::Duration timeout) override {
    const size_t at = waits++ < script.size() ? waits - 1 : script.size() - 1;
    return script[at]();
  }
  absl::StatusOr<v1::Operation> CancelOperation(const std::string& id) override {
    ++cancels;
    v1::Operation operation;
    operation.set_id(id);
    operation.set_state(v1::Operation::STATE_CANCELLED);
    return operation;
  }
  absl::StatusOr<v1::ListOperationsResponse> ListOperations() override {
    v1::ListOperationsResponse response;
    v1::Operation* operation = response.add_operations();
    operation->set_id("op-1");
    operation->set_state(v1::Operation::STATE_FAILED);
    operation->set_phase("cluster");
    operation->set_error("no model");
    return response;
  }
  absl::StatusOr<v1::ListGenerationsResponse> ListGenerations() override {
    v1::ListGenerationsResponse response;
    if (!empty) *response.mutable_generations() = {generations_.begin(), generations_.end()};
    return response;
  }
  absl::StatusOr<v1::GenerationInfo> GetGeneration(uint64_t generation) override {
    for (const v1::GenerationInfo& info : generations_) {
      if (info.generation() == generation || (generation == 0 && info.active())) return info;
    }
    return absl::NotFoundError("no such generation");
  }
  absl::StatusOr<v1::GenerationInfo> ActivateGeneration(uint64_t generation) override {
    ++activations;
    return GetGeneration(generation);
  }

  absl::StatusOr<v1::GenerationInfo> Rollback(bool dry_run) override {
    rollbacks += dry_run ? 0 : 1;
    return GetGeneration(1);
  }
  absl::StatusOr<v1::GenerationInfo> RetireGeneration(uint64_t generation, bool dry_run) override {
    retired += dry_run ? 0 : 1;
    if (generation == 2) return absl::FailedPreconditionError("generation 2 is active");
    return GetGeneration(generation);
  }
  absl::StatusOr<v1::GenerationInfo> PinGeneration(uint64_t generation, bool pinned) override {
    auto info = GetGeneration(generation);
    if (info.ok()) info->set_pinned(pinned);
    return info;
  }
  absl::StatusOr<v1::DiffGenerationsResponse> DiffGenerations(uint64_t from, uint64_t to, uint32_t) override {
    v1::DiffGenerationsResponse diff;
    diff.set_from(from);
    diff.set_to(to);
    diff.set_common(1000);
    diff.set_moved(125);
    diff.set_churn(0.125);
    diff.set_nmi(0.75);
    for (uint32_t s = 0; s < 25; ++s) diff.add_subspaces()->set_subspace(s);
    diff.add_flows()->set_identities(77);
    diff.add_identities()->set_name("U+672A");
    return diff;
  }
  absl::StatusOr<v1::GetSubspaceResponse> GetSubspace(uint64_t, uint32_t subspace, uint32_t) override {
    if (subspace >= 25) return absl::NotFoundError("subspace: there are 25");
    v1::GetSubspaceResponse response;
    response.set_generation(2);
    response.mutable_info()->set_subspace(subspace);
    response.mutable_info()->set_identities(4000);
    response.add_members()->set_name("U+672A");
    response.add_nearest()->set_subspace(3);
    return response;
  }
  absl::StatusOr<v1::FindLookalikesResponse> FindLookalikes(
      const v1::FindLookalikesRequest& request) override {
    pictures_wanted = request.pictures();
    v1::FindLookalikesResponse response;
    response.set_generation(2);
    response.mutable_identity()->set_name(request.identity());
    response.mutable_identity()->set_identity(5);
    v1::SimilarIdentity& other = *response.add_lookalikes();
    other.set_name("U+672B");
    other.set_similarity(0.875);
    if (request.pictures()) {
      response.mutable_identity()->set_picture(picture);
      other.set_picture(picture);
    }
    return response;
  }
  absl::StatusOr<v1::GetPolicyResponse> GetPolicy() override {
    v1::GetPolicyResponse response;
    *response.mutable_policy() = policy;
    response.set_active_share(-1);
    response.set_verdict("no condition holds");
    return response;
  }
  absl::StatusOr<v1::ReclusterPolicySpec> SetPolicy(const v1::ReclusterPolicySpec& spec) override {
    return policy = spec;
  }
  absl::Status Watch(uint64_t, const std::function<bool(const v1::WatchResponse&)>& event) override {
    v1::WatchResponse response;
    response.set_retired(7);
    event(response);
    *response.mutable_operation() = Done(v1::Operation::STATE_SUCCEEDED);
    event(response);
    return absl::OkStatus();
  }

  static v1::Operation Done(v1::Operation::State state) {
    v1::Operation operation;
    operation.set_id("op-1");
    operation.set_state(state);
    operation.set_phase("cluster");
    operation.set_error(state == v1::Operation::STATE_FAILED ? "disk full" : "");
    operation.set_generation(2);
    return operation;
  }

  std::vector<v1::ReclusterRequest> requests;
  std::vector<std::function<absl::StatusOr<v1::Operation>()>> script;
  size_t waits = 0;
  int cancels = 0;
  int activations = 0;
  int rollbacks = 0;
  int retired = 0;
  bool pictures_wanted = false;
  std::string picture;  // of everybody
  v1::ReclusterPolicySpec policy;
  bool empty = false;

 private:
  const std::string address_ = "miner:1";
  ClientSecurity security_;
  std::vector<v1::GenerationInfo> generations_;
};

}  // namespace doppel
