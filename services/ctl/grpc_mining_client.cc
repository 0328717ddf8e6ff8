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
        security_(security),
        deadline_(deadline),
        stub_(v1::MiningService::NewStub(MakeChannel(address, security, Arguments()))) {}

  const std::string& address() const override { return address_; }
  const ClientSecurity& security() const override { return security_; }

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
  absl::StatusOr<v1::GenerationInfo> Rollback(bool dry_run) override {
    v1::RollbackRequest request;
    request.set_dry_run(dry_run);
    v1::RollbackResponse response;
    ASSIGN_OR_RETURN(response, Call(&v1::MiningService::Stub::Rollback, request, &response));
    return response.generation();
  }
  absl::StatusOr<v1::GenerationInfo> RetireGeneration(uint64_t generation, bool dry_run) override {
    v1::RetireGenerationRequest request;
    request.set_generation(generation);
    request.set_dry_run(dry_run);
    v1::RetireGenerationResponse response;
    ASSIGN_OR_RETURN(response, Call(&v1::MiningService::Stub::RetireGeneration, request, &response));
    return response.generation();
  }
  absl::StatusOr<v1::GenerationInfo> PinGeneration(uint64_t generation, bool pinned) override {
    v1::PinGenerationRequest request;
    request.set_generation(generation);
    request.set_pinned(pinned);
    v1::PinGenerationResponse response;
    ASSIGN_OR_RETURN(response, Call(&v1::MiningService::Stub::PinGeneration, request, &response));
    return response.generation();
  }
  absl::StatusOr<v1::DiffGenerationsResponse> DiffGenerations(uint64_t from, uint64_t to,
                                                              uint32_t limit) override {
    v1::DiffGenerationsRequest request;
    request.set_from(from);
    request.set_to(to);
    request.set_limit(limit);
    v1::DiffGenerationsResponse response;
    ASSIGN_OR_RETURN(response, Call(&v1::MiningService::Stub::DiffGenerations, request, &response));
    return response;
  }
  absl::StatusOr<v1::GetSubspaceResponse> GetSubspace(uint64_t generation, uint32_t subspace,
                                                      uint32_t limit) override {
    v1::GetSubspaceRequest request;
    request.set_generation(generation);
    request.set_subspace(subspace);
    request.set_limit(limit);
    v1::GetSubspaceResponse response;
    ASSIGN_OR_RETURN(response, Call(&v1::MiningService::Stub::GetSubspace, request, &response));
    return response;
  }
  absl::StatusOr<v1::FindLookalikesResponse> FindLookalikes(
      const v1::FindLookalikesRequest& request) override {
    v1::FindLookalikesResponse response;
    return Call(&v1::MiningService::Stub::FindLookalikes, request, &response);
  }
  absl::StatusOr<v1::GetPolicyResponse> GetPolicy() override {
    v1::GetPolicyResponse response;
    return Call(&v1::MiningService::Stub::GetPolicy, v1::GetPolicyRequest(), &response);
  }
  absl::StatusOr<v1::ReclusterPolicySpec> SetPolicy(const v1::ReclusterPolicySpec& policy) override {
    v1::SetPolicyRequest request;
    *request.mutable_policy() = policy;
    v1::SetPolicyResponse response;
    ASSIGN_OR_RETURN(response, Call(&v1::MiningService::Stub::SetPolicy, request, &response));
    return response.policy();
  }
  absl::Status Watch(uint64_t after, const std::function<bool(const v1::WatchResponse&)>& event) override {
    grpc::ClientContext context;
    v1::WatchRequest request;
    request.set_after(after);
    const auto reader = stub_->Watch(&context, request);
    v1::WatchResponse response;
    while (reader->Read(&response)) {
      if (event(response)) continue;
      context.TryCancel();
      while (reader->Read(&response)) {
      }
      (void)reader->Finish();
      return absl::OkStatus();
    }
    const grpc::Status status = reader->Finish();
    return status.ok() ? absl::OkStatus() : Explain(status);
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
  const ClientSecurity security_;
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
