#include "services/ctl/cleaning_client.h"

#include <grpcpp/grpcpp.h>

#include <chrono>

#include "absl/strings/str_cat.h"
#include "common/net/client_credentials.h"
#include "doppel/v1/cleaning.grpc.pb.h"

namespace doppel {
namespace {

class GrpcCleaningClient : public CleaningClient {
 public:
  GrpcCleaningClient(const std::string& address, absl::Duration deadline, const ClientSecurity& security)
      : address_(address), deadline_(deadline) {
    grpc::ChannelArguments arguments;
    // A CSV of many findings is larger than gRPC's 4 MiB.
    arguments.SetMaxReceiveMessageSize(256 << 20);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    stub_ = v1::CleaningService::NewStub(MakeChannel(address, security, arguments));
  }

  absl::StatusOr<v1::FindResponse> Find(const v1::FindRequest& request) override {
    return Ask<v1::FindResponse>(&v1::CleaningService::Stub::Find, request);
  }
  absl::StatusOr<v1::ListFindingsResponse> ListFindings(const v1::ListFindingsRequest& request) override {
    return Ask<v1::ListFindingsResponse>(&v1::CleaningService::Stub::ListFindings, request);
  }
  absl::StatusOr<v1::DecideResponse> Decide(const v1::DecideRequest& request) override {
    return Ask<v1::DecideResponse>(&v1::CleaningService::Stub::Decide, request);
  }
  absl::StatusOr<v1::UndoResponse> Undo(const v1::UndoRequest& request) override {
    return Ask<v1::UndoResponse>(&v1::CleaningService::Stub::Undo, request);
  }
  absl::StatusOr<v1::ExportResponse> Export(const v1::ExportRequest& request) override {
    return Ask<v1::ExportResponse>(&v1::CleaningService::Stub::Export, request);
  }
  absl::StatusOr<v1::ApplyResponse> Apply(const v1::ApplyRequest& request) override {
    return Ask<v1::ApplyResponse>(&v1::CleaningService::Stub::Apply, request);
  }

 private:
  template <typename Response, typename Request>
  absl::StatusOr<Response> Ask(grpc::Status (v1::CleaningService::Stub::*method)(grpc::ClientContext*,
                                                                                 const Request&, Response*),
                               const Request& request) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMicroseconds(deadline_));
    Response response;
    const grpc::Status status = (stub_.get()->*method)(&context, request, &response);
    if (status.ok()) return response;
    return ExplainCleaning(status);
  }

  absl::Status ExplainCleaning(const grpc::Status& status) const {
    switch (status.error_code()) {
      case grpc::StatusCode::UNAVAILABLE:
        return absl::UnavailableError(
            absl::StrCat("no miner answers at ", address_,
                         ": start one with `doppel-miner serve`, or name another with --server (",
                         status.error_message(), ")"));
      case grpc::StatusCode::DEADLINE_EXCEEDED:
        return absl::DeadlineExceededError(absl::StrCat(
            "the miner at ", address_, " did not answer within ", absl::FormatDuration(deadline_),
            ": it may still be at work; give it longer with --timeout"));
      case grpc::StatusCode::UNIMPLEMENTED:
        return absl::UnimplementedError(
            absl::StrCat("what listens at ", address_, " is not a miner of this version: check --server"));
      default:
        return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                            absl::StrCat("the miner at ", address_, ": ", status.error_message()));
    }
  }

  const std::string address_;
  const absl::Duration deadline_;
  std::unique_ptr<v1::CleaningService::Stub> stub_;
};

}  // namespace

std::unique_ptr<CleaningClient> MakeGrpcCleaningClient(const std::string& address, absl::Duration deadline,
                                                       const ClientSecurity& security) {
  return std::make_unique<GrpcCleaningClient>(address, deadline, security);
}

}  // namespace doppel
