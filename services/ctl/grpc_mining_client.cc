#include <grpcpp/grpcpp.h>

#include <chrono>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/net/client_credentials.h"
#include "doppel/v1/mining.grpc.pb.h"
#include "services/ctl/mining_client.h"

namespace doppel {
namespace {

class GrpcMiningClient : public MiningClient {
 public:
  GrpcMiningClient(const std::string& address, absl::Duration deadline, const ClientSecurity& security)
      : address_(address),
        deadline_(deadline),
        stub_(v1::MiningService::NewStub(MakeChannel(address, security, Arguments()))) {}

  const std::string& address() const override { return address_; }

  absl::StatusOr<v1::DescribeResponse> Describe() override {
    v1::DescribeResponse response;
    return Call(&v1::MiningService::Stub::Describe, v1::DescribeRequest(), &response);
  }
  absl::StatusOr<v1::Operation> Recluster(const v1::ReclusterRequest& request) override {
    v1::ReclusterResponse response;
    ASSIGN_OR_RETURN(response, Call(&v1::MiningService::Stub::Recluster, request, &response));
    return response.operation();
  }
  absl::StatusOr<v1::Operation> GetOperation(const std::string& id) override {
    v1::GetOperationRequest request;
    request.set_id(id);
    v1::GetOperationResponse response;
    ASSIGN_OR_RETURN(response, Call(&v1::MiningService::Stub::GetOperation, request, &response));
    return response.operation();
  }
  absl::StatusOr<v1::Operation> WaitOperation(const std::string& id, absl::Duration timeout) override {
    v1::WaitOperationRequest request;
    request.set_id(id);
    request.set_timeout_seconds(absl::ToDoubleSeconds(timeout));
    v1::WaitOperationResponse response;
    ASSIGN_OR_RETURN(response, Call(&v1::MiningService::Stub::WaitOperation, request, &response, timeout));
    return response.operation();
  }
  absl::StatusOr<v1::Operation> CancelOperation(const std::string& id) override {
    v1::CancelOperationRequest request;
    request.set_id(id);
    v1::CancelOperationResponse response;
    ASSIGN_OR_RETURN(response, Call(&v1::MiningService::Stub::CancelOperation, request, &response));
    return response.operation();
  }
  absl::StatusOr<v1::ListOperationsResponse> ListOperations() override {
    v1::ListOperationsResponse response;
    return Call(&v1::MiningService::Stub::ListOperations, v1::ListOperationsRequest(), &response);
  }
  absl::StatusOr<v1::ListGenerationsResponse> ListGenerations() override {
    v1::ListGenerationsResponse response;
    return Call(&v1::MiningService::Stub::ListGenerations, v1::ListGenerationsRequest(), &response);
  }
  absl::StatusOr<v1::GenerationInfo> GetGeneration(uint64_t generation) override {
    v1::GetGenerationRequest request;
    request.set_generation(generation);
    v1::GetGenerationResponse response;
    ASSIGN_OR_RETURN(response, Call(&v1::MiningService::Stub::GetGeneration, request, &response));
    return response.generation();
  }
  absl::StatusOr<v1::GenerationInfo> ActivateGeneration(uint64_t generation) override {
    v1::ActivateGenerationRequest request;
    request.set_generation(generation);
    v1::ActivateGenerationResponse response;
    ASSIGN_OR_RETURN(response, Call(&v1::MiningService::Stub::ActivateGeneration, request, &response));
    return response.generation();
  }

 private:
  static grpc::ChannelArguments Arguments() {
    grpc::ChannelArguments arguments;
    // A generation of thousands of subspaces is larger than gRPC's 4 MiB.
    arguments.SetMaxReceiveMessageSize(256 << 20);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
    return arguments;
  }

  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (v1::MiningService::Stub::*method)(grpc::ClientContext*,
                                                                                const Request&, Response*),
                                const Request& request, Response* response,
                                absl::Duration extra = absl::ZeroDuration()) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMicroseconds(deadline_ + extra));
    const grpc::Status status = (stub_.get()->*method)(&context, request, response);
    if (status.ok()) return std::move(*response);
    return Explain(status);
  }

  absl::Status Explain(const grpc::Status& status) const {
    const std::string& text = status.error_message();
    switch (status.error_code()) {
      case grpc::StatusCode::UNAVAILABLE:
        return absl::UnavailableError(absl::StrCat(
            "no miner answers at ", address_,
            ": start one with `doppel-miner serve`, or name another with --server (", text, ")"));
      case grpc::StatusCode::DEADLINE_EXCEEDED:
        return absl::DeadlineExceededError(absl::StrCat("the miner at ", address_, " did not answer within ",
                                                        absl::FormatDuration(deadline_),
                                                        ": try again, or give it longer with --timeout"));
      case grpc::StatusCode::UNIMPLEMENTED:
        return absl::UnimplementedError(absl::StrCat(
            "what listens at ", address_, " is not a miner of this version (", text, "): check --server"));
      case grpc::StatusCode::UNAUTHENTICATED:
      case grpc::StatusCode::PERMISSION_DENIED:
        return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                            absl::StrCat("the miner at ", address_, " does not let us: ", text));
      default:
        return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                            absl::StrCat("the miner at ", address_, ": ", text));
    }
  }

  const std::string address_;
  const absl::Duration deadline_;
  const std::unique_ptr<v1::MiningService::Stub> stub_;
};

}  // namespace

std::unique_ptr<MiningClient> MakeGrpcMiningClient(const std::string& address, absl::Duration deadline) {
  return MakeSecuredMiningClient(address, deadline, {});
}

std::unique_ptr<MiningClient> MakeSecuredMiningClient(const std::string& address, absl::Duration deadline,
                                                      const ClientSecurity& security) {
  return std::make_unique<GrpcMiningClient>(address, deadline, security);
}

}  // namespace doppel
