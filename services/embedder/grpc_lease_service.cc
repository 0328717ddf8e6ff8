#include <grpcpp/grpcpp.h>

#include <chrono>

#include "common/net/client_credentials.h"
#include "doppel/v1/embedding.grpc.pb.h"
#include "services/embedder/lease_service.h"

namespace doppel {
namespace {

class GrpcLeaseService : public LeaseService {
 public:
  GrpcLeaseService(const std::string& address, absl::Duration timeout, const ClientSecurity& security)
      : timeout_(absl::ToChronoMilliseconds(timeout)), address_(address) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    // A miner that restarts is back within seconds: do not wait for minutes.
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
    stub_ = v1::EmbeddingService::NewStub(MakeChannel(address, security, arguments));
  }

  absl::StatusOr<v1::LeaseRangeResponse> Lease(const v1::LeaseRangeRequest& request) override {
    return Call<v1::LeaseRangeResponse>(request, &v1::EmbeddingService::Stub::LeaseRange);
  }
  absl::StatusOr<v1::RenewLeaseResponse> Renew(const v1::RenewLeaseRequest& request) override {
    return Call<v1::RenewLeaseResponse>(request, &v1::EmbeddingService::Stub::RenewLease);
  }
  absl::StatusOr<v1::CommitRangeResponse> Commit(const v1::CommitRangeRequest& request) override {
    return Call<v1::CommitRangeResponse>(request, &v1::EmbeddingService::Stub::CommitRange);
  }

 private:
  template <typename Response, typename Request>
  absl::StatusOr<Response> Call(const Request& request,
                                grpc::Status (v1::EmbeddingService::Stub::*method)(grpc::ClientContext*,
                                                                                   const Request&,
                                                                                   Response*)) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + timeout_);
    Response response;
    const grpc::Status status = (stub_.get()->*method)(&context, request, &response);
    if (status.ok()) return response;
    return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                        "miner at " + address_ + ": " + status.error_message());
  }

  const std::chrono::milliseconds timeout_;
  const std::string address_;
  std::unique_ptr<v1::EmbeddingService::Stub> stub_;
};

}  // namespace

std::unique_ptr<LeaseService> MakeGrpcLeaseService(const std::string& address, absl::Duration timeout,
                                                   const ClientSecurity& security) {
  return std::make_unique<GrpcLeaseService>(address, timeout, security);
}

}  // namespace doppel
