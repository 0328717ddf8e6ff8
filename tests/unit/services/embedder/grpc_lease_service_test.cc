#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "doppel/v1/embedding.grpc.pb.h"
#include "services/embedder/lease_service.h"

namespace doppel {
namespace {

class Server : public v1::EmbeddingService::Service {
 public:
  Server() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("localhost:0", grpc::InsecureServerCredentials(), &port_);
    builder.SetMaxReceiveMessageSize(-1);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  std::string address() const { return absl::StrCat("localhost:", port_); }

  grpc::Status LeaseRange(grpc::ServerContext*, const v1::LeaseRangeRequest* request,
                          v1::LeaseRangeResponse* response) override {
    response->mutable_lease()->set_operation("for " + request->worker());
    return grpc::Status::OK;
  }
  grpc::Status RenewLease(grpc::ServerContext*, const v1::RenewLeaseRequest* request,
                          v1::RenewLeaseResponse*) override {
    return {grpc::StatusCode::NOT_FOUND, absl::StrCat("no lease ", request->lease())};
  }
  grpc::Status CommitRange(grpc::ServerContext*, const v1::CommitRangeRequest* request,
                           v1::CommitRangeResponse* response) override {
    response->set_accepted(request->representations().size() == (8U << 20));
    return grpc::Status::OK;
  }

 private:
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

TEST(GrpcLeaseService, CallsTheMiner) {
  Server server;
  auto service = MakeGrpcLeaseService(server.address());
  v1::LeaseRangeRequest request;
  request.set_worker("w");
  const auto response = service->Lease(request);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->lease().operation(), "for w");
}

TEST(GrpcLeaseService, StatusKeepsItsCodeAndNamesTheMiner) {
  Server server;
  auto service = MakeGrpcLeaseService(server.address());
  v1::RenewLeaseRequest request;
  request.set_lease(7);
  const auto response = service->Renew(request);
  EXPECT_EQ(response.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(response.status().message()), ::testing::HasSubstr("no lease 7"));
  EXPECT_THAT(std::string(response.status().message()), ::testing::HasSubstr(server.address()));
}

TEST(GrpcLeaseService, SendsLargeCommits) {
  Server server;
  auto service = MakeGrpcLeaseService(server.address());
  v1::CommitRangeRequest request;
  request.mutable_representations()->resize(8U << 20);
  const auto response = service->Commit(request);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_TRUE(response->accepted());
}

TEST(GrpcLeaseService, MinerThatIsAwayIsUnavailable) {
  auto service = MakeGrpcLeaseService("localhost:1", absl::Seconds(5));
  const auto response = service->Lease({});
  EXPECT_TRUE(absl::IsUnavailable(response.status()) || absl::IsDeadlineExceeded(response.status()))
      << response.status();
}

}  // namespace
}  // namespace doppel
