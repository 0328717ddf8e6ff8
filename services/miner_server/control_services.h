#pragma once

#include <grpcpp/support/server_callback.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

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
  std::vector<std::string> model_roots;  // see MinerServerOptions
  double max_wait_seconds = 24 * 3600;
};

// Adaptors without logic: convert, forward to the miner, convert the status. WaitOperation and Watch hold no
// thread: they look at the miner on a timer.
class MiningServiceImpl final : public v1::MiningService::CallbackService {
 public:
  // Tells the miner what trainers acknowledge, for its policy, as long as it lives.
  explicit MiningServiceImpl(ControlEnvironment environment);
  ~MiningServiceImpl() override;

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
  grpc::ServerUnaryReactor* Rollback(grpc::CallbackServerContext* context, const v1::RollbackRequest* request,
                                     v1::RollbackResponse* response) override;
  grpc::ServerUnaryReactor* RetireGeneration(grpc::CallbackServerContext* context,
                                             const v1::RetireGenerationRequest* request,
                                             v1::RetireGenerationResponse* response) override;
  grpc::ServerUnaryReactor* PinGeneration(grpc::CallbackServerContext* context,
                                          const v1::PinGenerationRequest* request,
                                          v1::PinGenerationResponse* response) override;
  grpc::ServerUnaryReactor* DiffGenerations(grpc::CallbackServerContext* context,
                                            const v1::DiffGenerationsRequest* request,
                                            v1::DiffGenerationsResponse* response) override;
  grpc::ServerUnaryReactor* GetSubspace(grpc::CallbackServerContext* context,
                                        const v1::GetSubspaceRequest* request,
                                        v1::GetSubspaceResponse* response) override;
  grpc::ServerUnaryReactor* FindLookalikes(grpc::CallbackServerContext* context,
                                           const v1::FindLookalikesRequest* request,
                                           v1::FindLookalikesResponse* response) override;
  grpc::ServerUnaryReactor* GetPolicy(grpc::CallbackServerContext* context,
                                      const v1::GetPolicyRequest* request,
                                      v1::GetPolicyResponse* response) override;
  grpc::ServerUnaryReactor* SetPolicy(grpc::CallbackServerContext* context,
                                      const v1::SetPolicyRequest* request,
                                      v1::SetPolicyResponse* response) override;
  grpc::ServerWriteReactor<v1::WatchResponse>* Watch(grpc::CallbackServerContext* context,
                                                     const v1::WatchRequest* request) override;

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
