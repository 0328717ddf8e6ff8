#pragma once

#include <cstdint>
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
};

// `deadline`: of each call (of WaitOperation: beyond its timeout).
std::unique_ptr<MiningClient> MakeGrpcMiningClient(const std::string& address, absl::Duration deadline);
std::unique_ptr<MiningClient> MakeSecuredMiningClient(const std::string& address, absl::Duration deadline,
                                                      const ClientSecurity& security);

}  // namespace doppel
