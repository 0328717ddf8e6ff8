#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/net/client_security.h"
#include "doppel/v1/embedding.pb.h"

namespace doppel {

// The miner's side of embedding, as an embedder sees it. Blocking; used from one thread.
class LeaseService {
 public:
  virtual ~LeaseService() = default;
  virtual absl::StatusOr<v1::LeaseRangeResponse> Lease(const v1::LeaseRangeRequest& request) = 0;
  virtual absl::StatusOr<v1::RenewLeaseResponse> Renew(const v1::RenewLeaseRequest& request) = 0;
  virtual absl::StatusOr<v1::CommitRangeResponse> Commit(const v1::CommitRangeRequest& request) = 0;
};

// Over gRPC; connects when first used, and again whenever the miner comes back. Each call fails with
// DEADLINE_EXCEEDED after `timeout`.
std::unique_ptr<LeaseService> MakeGrpcLeaseService(const std::string& address,
                                                   absl::Duration timeout = absl::Seconds(20),
                                                   const ClientSecurity& security = {});

}  // namespace doppel
