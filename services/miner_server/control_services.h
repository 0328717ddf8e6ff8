#pragma once

#include <grpcpp/support/server_callback.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "common/base/executor.h"
#include "doppel/v1/embedding.grpc.pb.h"
#include "doppel/v1/mining.grpc.pb.h"
#include "miner/miner.h"
#include "services/miner_server/server_metrics.h"
#include "services/miner_server/stream_registry.h"

namespace doppel {

// What the control plane needs. Not owned, except for the miner; outlives the services.
struct ControlEnvironment {
  std::shared_ptr<Miner> miner;
  Executor* executor = nullptr;  // the miner's calls may touch disks
  const StreamRegistry* registry = nullptr;
  const ServerMetrics* metrics = nullptr;
  std::string incarnation;
  absl::Time started;
};

// Adaptors without logic: convert, forward to the miner, convert the status. WaitOperation holds no thread:
// it looks at the operation on a timer.
class MiningServiceImpl final : public v1::MiningService::CallbackService {
 public:
  explicit MiningServiceImpl(ControlEnvironment environment) : environment_(std::move(environment)) {}

  grpc::ServerUnaryReactor* Describe(grpc::CallbackServerContext* context, const v1::DescribeRequest* request,
                                     v1::DescribeResponse* response) override;
  grpc::ServerUnaryReactor* Recluster(grpc::CallbackServerContext* context,
                                      const v1::ReclusterRequest* request,
                                      v1::ReclusterResponse* response) override;
  grpc::ServerUnaryReactor* GetOperation(grpc::CallbackServerContext* context,
                                         const v1::GetOperationRequest* request,
                                         v1::GetOperationResponse* response) override;
  grpc::ServerUnaryReactor* WaitOperation(grpc::CallbackServerContext* context,
                                          const v1::WaitOperationRequest* request,
                                          v1::WaitOperationResponse* response) override;
  grpc::ServerUnaryReactor* CancelOperation(grpc::CallbackServerContext* context,
                                            const v1::CancelOperationRequest* request,
                                            v1::CancelOperationResponse* response) override;
  grpc::ServerUnaryReactor* ListOperations(grpc::CallbackServerContext* context,
                                           const v1::ListOperationsRequest* request,
                                           v1::ListOperationsResponse* response) override;
  grpc::ServerUnaryReactor* ListGenerations(grpc::CallbackServerContext* context,
                                            const v1::ListGenerationsRequest* request,
                                            v1::ListGenerationsResponse* response) override;
  grpc::ServerUnaryReactor* GetGeneration(grpc::CallbackServerContext* context,
                                          const v1::GetGenerationRequest* request,
                                          v1::GetGenerationResponse* response) override;
  grpc::ServerUnaryReactor* ActivateGeneration(grpc::CallbackServerContext* context,
                                               const v1::ActivateGenerationRequest* request,
                                               v1::ActivateGenerationResponse* response) override;

 private:
  absl::Status FillDescription(v1::DescribeResponse* response) const;

  const ControlEnvironment environment_;
};

class EmbeddingServiceImpl final : public v1::EmbeddingService::CallbackService {
 public:
  explicit EmbeddingServiceImpl(ControlEnvironment environment) : environment_(std::move(environment)) {}

  grpc::ServerUnaryReactor* LeaseRange(grpc::CallbackServerContext* context,
                                       const v1::LeaseRangeRequest* request,
                                       v1::LeaseRangeResponse* response) override;
  grpc::ServerUnaryReactor* RenewLease(grpc::CallbackServerContext* context,
                                       const v1::RenewLeaseRequest* request,
                                       v1::RenewLeaseResponse* response) override;
  grpc::ServerUnaryReactor* CommitRange(grpc::CallbackServerContext* context,
                                        const v1::CommitRangeRequest* request,
                                        v1::CommitRangeResponse* response) override;
  grpc::ServerWriteReactor<v1::FetchRangeResponse>* FetchRange(grpc::CallbackServerContext* context,
                                                               const v1::FetchRangeRequest* request) override;

 private:
  const ControlEnvironment environment_;
};

}  // namespace doppel
