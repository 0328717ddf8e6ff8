#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "absl/synchronization/notification.h"
#include "doppel/v1/mining.grpc.pb.h"
#include "services/ctl/mining_client.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;

class Service : public v1::MiningService::Service {
 public:
  grpc::Status GetGeneration(grpc::ServerContext*, const v1::GetGenerationRequest* request,
                             v1::GetGenerationResponse* response) override {
    if (request->generation() == 9) return {grpc::StatusCode::NOT_FOUND, "no generation 9"};
    response->mutable_generation()->set_generation(request->generation());
    // Larger than gRPC's own limit.
    if (request->generation() == 5) response->mutable_generation()->set_provenance(std::string(5 << 20, 'x'));
    return grpc::Status::OK;
  }
  grpc::Status Recluster(grpc::ServerContext*, const v1::ReclusterRequest*, v1::ReclusterResponse*) override {
    return {grpc::StatusCode::FAILED_PRECONDITION, "op-3 is running"};
  }
  grpc::Status WaitOperation(grpc::ServerContext* context, const v1::WaitOperationRequest* request,
                             v1::WaitOperationResponse* response) override {
    response->mutable_operation()->set_id(request->id());
    return grpc::Status::OK;
  }
  grpc::Status Describe(grpc::ServerContext*, const v1::DescribeRequest*, v1::DescribeResponse*) override {
    silence_.WaitForNotification();
    return grpc::Status::OK;
  }
  void EndSilence() { silence_.Notify(); }

 private:
  absl::Notification silence_;
};

class GrpcMiningClientTest : public ::testing::Test {
 protected:
  GrpcMiningClientTest() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    address_ = "127.0.0.1:" + std::to_string(port);
  }
  ~GrpcMiningClientTest() override {
    service_.EndSilence();
    server_->Shutdown();
  }
  Service service_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

TEST_F(GrpcMiningClientTest, CallsTravelAndErrorsKeepTheirCode) {
  const auto client = MakeGrpcMiningClient(address_, absl::Seconds(20));
  EXPECT_EQ(client->GetGeneration(4)->generation(), 4);
  EXPECT_EQ(client->WaitOperation("op-2", absl::Seconds(1))->id(), "op-2");
  const auto missing = client->GetGeneration(9);
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("no generation 9"));
  EXPECT_EQ(client->Recluster({}).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(GrpcMiningClientTest, LargeGenerationsFit) {
  EXPECT_EQ(MakeGrpcMiningClient(address_, absl::Seconds(20))->GetGeneration(5)->provenance().size(),
            5 << 20);
}

TEST_F(GrpcMiningClientTest, SilentMinerRunsIntoTheDeadline) {
  const auto result = MakeGrpcMiningClient(address_, absl::Milliseconds(50))->Describe();
  EXPECT_EQ(result.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("--timeout"));
}

TEST_F(GrpcMiningClientTest, ServerWithoutTheMethodIsNamed) {
  const auto result = MakeGrpcMiningClient(address_, absl::Seconds(20))->ListGenerations();
  EXPECT_EQ(result.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("--server"));
}

TEST(GrpcMiningClientAloneTest, NobodyThereSaysHowToStartAMiner) {
  const auto result = MakeGrpcMiningClient("127.0.0.1:1", absl::Seconds(20))->Describe();
  EXPECT_EQ(result.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("no miner answers at 127.0.0.1:1"));
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("doppel-miner serve"));
}

}  // namespace
}  // namespace doppel
