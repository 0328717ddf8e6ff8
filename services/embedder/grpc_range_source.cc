#include <grpcpp/grpcpp.h>

#include "absl/strings/str_cat.h"
#include "common/net/client_credentials.h"
#include "doppel/v1/embedding.grpc.pb.h"
#include "services/embedder/remote_range.h"

namespace doppel {
namespace {

class GrpcRangeReader final : public RangeReader {
 public:
  GrpcRangeReader(v1::EmbeddingService::Stub& stub, const v1::FetchRangeRequest& request,
                  const std::string& address)
      : address_(address), reader_(stub.FetchRange(&context_, request)) {}

  bool Read(v1::FetchRangeResponse* response) override { return reader_->Read(response); }
  absl::Status Finish() override {
    const grpc::Status status = reader_->Finish();
    if (status.ok()) return absl::OkStatus();
    return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                        absl::StrCat("miner at ", address_, ": ", status.error_message()));
  }
  void Cancel() override { context_.TryCancel(); }

 private:
  const std::string address_;
  grpc::ClientContext context_;
  const std::unique_ptr<grpc::ClientReader<v1::FetchRangeResponse>> reader_;
};

class GrpcRangeSource final : public RangeSource {
 public:
  GrpcRangeSource(const std::string& address, const ClientSecurity& security) : address_(address) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
    stub_ = v1::EmbeddingService::NewStub(MakeChannel(address, security, arguments));
  }
  std::unique_ptr<RangeReader> Fetch(const v1::FetchRangeRequest& request) override {
    return std::make_unique<GrpcRangeReader>(*stub_, request, address_);
  }

 private:
  const std::string address_;
  std::unique_ptr<v1::EmbeddingService::Stub> stub_;
};

}  // namespace

std::unique_ptr<RangeSource> MakeGrpcRangeSource(const std::string& address, const ClientSecurity& security) {
  return std::make_unique<GrpcRangeSource>(address, security);
}

}  // namespace doppel
