#pragma once

#include <utility>

#include "doppel/v1/models.grpc.pb.h"
#include "doppel/v1/reports.grpc.pb.h"
#include "miner/planning/steering.h"
#include "services/miner_server/control_services.h"

namespace doppel {

// The model store, over gRPC. Streams hold no thread while they wait for the peer.
class ModelServiceImpl final : public v1::ModelService::CallbackService {
 public:
  explicit ModelServiceImpl(ControlEnvironment environment) : environment_(std::move(environment)) {}

  grpc::ServerUnaryReactor* QueryModel(grpc::CallbackServerContext* context,
                                       const v1::QueryModelRequest* request,
                                       v1::QueryModelResponse* response) override;
  grpc::ServerReadReactor<v1::PublishModelRequest>* PublishModel(grpc::CallbackServerContext* context,
                                                                 v1::PublishModelResponse* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;
  grpc::ServerWriteReactor<v1::FetchModelResponse>* FetchModel(grpc::CallbackServerContext* context,
                                                               const v1::FetchModelRequest* request) override;

 private:
  const ControlEnvironment environment_;
};

// What trainers report, over gRPC.
class ReportServiceImpl final : public v1::ReportService::CallbackService {
 public:
  // `steering` is not owned; null: no plan follows reports.
  explicit ReportServiceImpl(ControlEnvironment environment, SteeredPlans* steering = nullptr)
      : environment_(std::move(environment)), steering_(steering) {}

  grpc::ServerUnaryReactor* ReportSteps(grpc::CallbackServerContext* context,
                                        const v1::ReportStepsRequest* request,
                                        v1::ReportStepsResponse* response) override;
  grpc::ServerUnaryReactor* DescribeRepresentations(grpc::CallbackServerContext* context,
                                                    const v1::DescribeRepresentationsRequest* request,
                                                    v1::DescribeRepresentationsResponse* response) override;
  grpc::ServerUnaryReactor* ListSubspaceHardness(grpc::CallbackServerContext* context,
                                                 const v1::ListSubspaceHardnessRequest* request,
                                                 v1::ListSubspaceHardnessResponse* response) override;
  grpc::ServerUnaryReactor* ListSteering(grpc::CallbackServerContext* context,
                                         const v1::ListSteeringRequest* request,
                                         v1::ListSteeringResponse* response) override;

 private:
  absl::Status Describe(const v1::DescribeRepresentationsRequest& request,
                        v1::DescribeRepresentationsResponse* response) const;

  const ControlEnvironment environment_;
  SteeredPlans* const steering_;
};

// EmbeddingService.FetchRange.
grpc::ServerWriteReactor<v1::FetchRangeResponse>* StartRangeStream(const ControlEnvironment& environment,
                                                                   const v1::FetchRangeRequest& request);

}  // namespace doppel
