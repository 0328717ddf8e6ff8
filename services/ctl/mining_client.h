#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/net/client_security.h"
#include "doppel/v1/mining.pb.h"

namespace doppel {

// The control plane as an operator sees it: every call has a deadline, and errors say what to do.
// Thread-safe.
class MiningClient {
 public:
  virtual ~MiningClient() = default;
  virtual const std::string& address() const = 0;
  // What its channel is made with, for clients of the miner's other services.
  virtual const ClientSecurity& security() const = 0;
  virtual absl::StatusOr<v1::DescribeResponse> Describe() = 0;
  virtual absl::StatusOr<v1::Operation> Recluster(const v1::ReclusterRequest& request) = 0;
  virtual absl::StatusOr<v1::Operation> GetOperation(const std::string& id) = 0;
  // Returns when the operation is done, or after `timeout`.
  virtual absl::StatusOr<v1::Operation> WaitOperation(const std::string& id, absl::Duration timeout) = 0;
  virtual absl::StatusOr<v1::Operation> CancelOperation(const std::string& id) = 0;
  virtual absl::StatusOr<v1::ListOperationsResponse> ListOperations() = 0;
  virtual absl::StatusOr<v1::ListGenerationsResponse> ListGenerations() = 0;
  // 0: the active one.
  virtual absl::StatusOr<v1::GenerationInfo> GetGeneration(uint64_t generation) = 0;
  virtual absl::StatusOr<v1::GenerationInfo> ActivateGeneration(uint64_t generation) = 0;
  virtual absl::StatusOr<v1::GenerationInfo> Rollback(bool dry_run) = 0;
  virtual absl::StatusOr<v1::GenerationInfo> RetireGeneration(uint64_t generation, bool dry_run) = 0;
  virtual absl::StatusOr<v1::GenerationInfo> PinGeneration(uint64_t generation, bool pinned) = 0;
  virtual absl::StatusOr<v1::DiffGenerationsResponse> DiffGenerations(uint64_t from, uint64_t to,
                                                                      uint32_t limit) = 0;
  virtual absl::StatusOr<v1::GetSubspaceResponse> GetSubspace(uint64_t generation, uint32_t subspace,
                                                              uint32_t limit) = 0;
  virtual absl::StatusOr<v1::FindLookalikesResponse> FindLookalikes(
      const v1::FindLookalikesRequest& request) = 0;
  virtual absl::StatusOr<v1::GetPolicyResponse> GetPolicy() = 0;
  virtual absl::StatusOr<v1::ReclusterPolicySpec> SetPolicy(const v1::ReclusterPolicySpec& policy) = 0;
  // Without a deadline. OK when `event` returns false.
  virtual absl::Status Watch(uint64_t after, const std::function<bool(const v1::WatchResponse&)>& event) = 0;
};

// `deadline`: of each call (of WaitOperation: beyond its timeout).
std::unique_ptr<MiningClient> MakeGrpcMiningClient(const std::string& address, absl::Duration deadline);
std::unique_ptr<MiningClient> MakeSecuredMiningClient(const std::string& address, absl::Duration deadline,
                                                      const ClientSecurity& security);

}  // namespace doppel
