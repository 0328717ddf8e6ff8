#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "doppel/v1/embedding.grpc.pb.h"
#include "doppel/v1/mining.grpc.pb.h"
#include "services/miner_server/miner_server.h"
#include "tests/support/fake_catalog.h"
#include "tests/support/fake_generation.h"
#include "tests/unit/services/miner_server/fake_miner.h"
#include "tests/unit/services/miner_server/stream_client.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;

class ControlServicesTest : public ::testing::Test {
 protected:
  ControlServicesTest()
      : catalog_(MakeFakeCatalog(20, 2, 2, 1, {{"train", 15}, {"test", 5}})),
        miner_(std::make_shared<FakeMiner>(catalog_)) {
    MinerServerOptions options;
    options.http_port = 0;
    server_ = MinerServer::Start(miner_, options).value();
    mining_ = v1::MiningService::NewStub(TestChannel(server_->address()));
    embedding_ = v1::EmbeddingService::NewStub(TestChannel(server_->address()));
  }

  v1::Operation RunningJob() {
    grpc::ClientContext context;
    v1::ReclusterResponse response;
    EXPECT_TRUE(mining_->Recluster(&context, {}, &response).ok());
    return response.operation();
  }
  grpc::Status Wait(const std::string& id, double seconds, v1::Operation* operation) {
    grpc::ClientContext context;
    v1::WaitOperationRequest request;
    request.set_id(id);
    request.set_timeout_seconds(seconds);
    v1::WaitOperationResponse response;
    const grpc::Status status = mining_->WaitOperation(&context, request, &response);
    *operation = response.operation();
    return status;
  }
  // What grpc.health.v1.Health says, without generated code: field 1 of the answer.
  int Health(const std::string& service) {
    grpc::ClientContext context;
    const auto channel = TestChannel(server_->address());
    const std::string request =
        service.empty() ? "" : absl::StrCat("\x0a", std::string(1, char(service.size())), service);
    grpc::Slice slice(request);
    grpc::ByteBuffer in(&slice, 1), out;
    grpc::GenericStub stub(channel);
    grpc::Status status;
    absl::Notification done;
    stub.UnaryCall(&context, "/grpc.health.v1.Health/Check", grpc::StubOptions(), &in, &out,
                   [&](grpc::Status end) {
                     status = std::move(end);
                     done.Notify();
                   });
    done.WaitForNotification();
    if (!status.ok()) return -static_cast<int>(status.error_code());
    std::vector<grpc::Slice> slices;
    EXPECT_TRUE(out.Dump(&slices).ok());
    return slices.empty() ? 0 : slices[0].begin()[1];
  }

  std::shared_ptr<const FakeCatalog> catalog_;
  std::shared_ptr<FakeMiner> miner_;
  std::unique_ptr<MinerServer> server_;
  std::unique_ptr<v1::MiningService::Stub> mining_;
  std::unique_ptr<v1::EmbeddingService::Stub> embedding_;
};

TEST_F(ControlServicesTest, DescribeTellsWhatIsServed) {
  grpc::ClientContext context;
  v1::DescribeResponse response;
  ASSERT_TRUE(mining_->Describe(&context, {}, &response).ok());
  EXPECT_EQ(response.incarnation(), server_->incarnation());
  EXPECT_EQ(response.catalog_fingerprint(), catalog_->fingerprint());
  EXPECT_EQ(response.identities(), 20u);
  EXPECT_EQ(response.samples(), 40u);
  ASSERT_EQ(response.splits_size(), 2);
  EXPECT_EQ(response.splits(1).name(), "test");
  EXPECT_EQ(response.active_generation(), 0u);
  EXPECT_EQ(response.running_operation(), "");
  EXPECT_NE(response.version(), "");
}

TEST_F(ControlServicesTest, ReclusterPassesTheRequestOnAndASecondOneIsRefused) {
  v1::ReclusterRequest request;
  request.set_model_path("/models/a");
  {
    grpc::ClientContext context;
    v1::ReclusterResponse response;
    ASSERT_TRUE(mining_->Recluster(&context, request, &response).ok());
    EXPECT_EQ(response.operation().request().model_path(), "/models/a");
  }
  grpc::ClientContext context;
  v1::ReclusterResponse response;
  const grpc::Status status = mining_->Recluster(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("cancel it"));
}

TEST_F(ControlServicesTest, UnknownOperationsAreNotFound) {
  v1::Operation operation;
  EXPECT_EQ(Wait("none", 5, &operation).error_code(), grpc::StatusCode::NOT_FOUND);
  grpc::ClientContext context;
  v1::GetOperationRequest request;
  request.set_id("none");
  v1::GetOperationResponse response;
  EXPECT_EQ(mining_->GetOperation(&context, request, &response).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(ControlServicesTest, WaitReturnsTheRunningOperationAtItsTimeout) {
  RunningJob();
  v1::Operation operation;
  ASSERT_TRUE(Wait("job", 0.06, &operation).ok());
  EXPECT_EQ(operation.state(), v1::Operation::STATE_RUNNING);
}

TEST_F(ControlServicesTest, ManyWaitersDoNotHoldUpTheRestAndAllReturnWhenItIsDone) {
  RunningJob();
  std::vector<std::thread> waiters;
  for (int i = 0; i < 16; ++i) {
    waiters.emplace_back([this] {
      v1::Operation operation;
      EXPECT_TRUE(Wait("job", 60, &operation).ok());
      EXPECT_EQ(operation.state(), v1::Operation::STATE_CANCELLED);
    });
  }
  {
    grpc::ClientContext context;
    v1::DescribeResponse description;
    ASSERT_TRUE(mining_->Describe(&context, {}, &description).ok());
    EXPECT_EQ(description.running_operation(), "job");
  }
  grpc::ClientContext context;
  v1::CancelOperationRequest request;
  request.set_id("job");
  v1::CancelOperationResponse response;
  EXPECT_TRUE(mining_->CancelOperation(&context, request, &response).ok());
  for (std::thread& waiter : waiters) waiter.join();
}

TEST_F(ControlServicesTest, DrainingSendsWaitersAway) {
  RunningJob();
  std::thread drainer([this] { server_->Drain(); });
  v1::Operation operation;
  EXPECT_EQ(Wait("job", 60, &operation).error_code(), grpc::StatusCode::UNAVAILABLE);
  drainer.join();
}

TEST_F(ControlServicesTest, GenerationsAreListedShownAndActivated) {
  for (uint64_t number : {1, 2}) {
    miner_->AddGeneration(std::make_shared<FakeGeneration>(number, 0, std::vector<uint32_t>(15, 0), 1));
  }
  {
    grpc::ClientContext context;
    v1::ListGenerationsResponse response;
    ASSERT_TRUE(mining_->ListGenerations(&context, {}, &response).ok());
    ASSERT_EQ(response.generations_size(), 2);
    EXPECT_TRUE(response.generations(1).active());
  }
  {
    grpc::ClientContext context;
    v1::ActivateGenerationRequest request;
    request.set_generation(1);
    v1::ActivateGenerationResponse response;
    ASSERT_TRUE(mining_->ActivateGeneration(&context, request, &response).ok());
    EXPECT_TRUE(response.generation().active());
  }
  grpc::ClientContext context;
  v1::GetGenerationResponse response;
  ASSERT_TRUE(mining_->GetGeneration(&context, {}, &response).ok());
  EXPECT_EQ(response.generation().generation(), 1u);
  EXPECT_TRUE(response.generation().active());
}

TEST_F(ControlServicesTest, EmbeddersLeaseRenewAndCommit) {
  {
    grpc::ClientContext context;
    v1::LeaseRangeRequest request;
    request.set_worker("w");
    v1::LeaseRangeResponse response;
    ASSERT_TRUE(embedding_->LeaseRange(&context, request, &response).ok());
    EXPECT_EQ(response.lease().operation(), "w");
  }
  {
    grpc::ClientContext context;
    v1::RenewLeaseRequest request;
    request.set_lease(8);
    v1::RenewLeaseResponse response;
    EXPECT_EQ(embedding_->RenewLease(&context, request, &response).error_code(), grpc::StatusCode::NOT_FOUND);
  }
  grpc::ClientContext context;
  v1::CommitRangeRequest request;
  request.set_dimension(512);
  request.set_identity_count(4096);
  request.set_representations(std::string(4 * 512 * 4096, 'v'));  // above gRPC's usual 4 MiB
  v1::CommitRangeResponse response;
  ASSERT_TRUE(embedding_->CommitRange(&context, request, &response).ok());
  EXPECT_TRUE(response.accepted());
}

TEST_F(ControlServicesTest, HealthIsPerServiceAndEndsWithDraining) {
  EXPECT_EQ(Health(""), 1);
  EXPECT_EQ(Health("doppel.v1.BatchService"), 1);
  EXPECT_EQ(Health("doppel.v1.MiningService"), 1);
  EXPECT_EQ(Health("doppel.v1.EmbeddingService"), 1);
  EXPECT_EQ(Health("unheard.of"), -static_cast<int>(grpc::StatusCode::NOT_FOUND));
  server_->Drain();
  EXPECT_EQ(Health("doppel.v1.BatchService"), 2);
}

TEST_F(ControlServicesTest, HttpShowsMetricsAndReadiness) {
  ASSERT_GT(server_->http_port(), 0);
  httplib::Client http("127.0.0.1", server_->http_port());
  EXPECT_EQ(http.Get("/livez")->status, 200);
  EXPECT_EQ(http.Get("/readyz")->status, 200);
  const auto metrics = http.Get("/metrics");
  EXPECT_THAT(metrics->body, HasSubstr("doppel_miner_batches_sent_total 0"));
  EXPECT_THAT(metrics->body, HasSubstr("doppel_miner_active_generation 0"));
  EXPECT_EQ(http.Get("/secrets")->status, 404);
  server_->Drain();
  EXPECT_EQ(http.Get("/readyz")->status, 503);
  EXPECT_EQ(http.Get("/livez")->status, 200);
}

TEST_F(ControlServicesTest, SecondServerOnTheSamePortsIsRefused) {
  MinerServerOptions options;
  options.listen = server_->address();
  const auto second = MinerServer::Start(miner_, options);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(server_->address()));
  options.listen = "127.0.0.1:0";
  options.http_port = server_->http_port();
  EXPECT_EQ(MinerServer::Start(miner_, options).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(ControlServicesTest, AddressWithoutPortIsRefused) {
  for (const char* listen : {"localhost", ":50051", "localhost:", ""}) {
    MinerServerOptions options;
    options.listen = listen;
    EXPECT_EQ(MinerServer::Start(miner_, options).status().code(), absl::StatusCode::kInvalidArgument)
        << listen;
  }
}

TEST_F(ControlServicesTest, EveryStartHasItsOwnIncarnation) {
  EXPECT_NE(MinerServer::Start(miner_, {}).value()->incarnation(), server_->incarnation());
}

TEST_F(ControlServicesTest, ShutdownTwiceIsFine) {
  server_->Shutdown(absl::ZeroDuration());
  server_->Shutdown(absl::Seconds(1));
}

TEST_F(ControlServicesTest, SteersGenerations) {
  for (uint64_t number : {1, 2}) {
    miner_->AddGeneration(
        std::make_shared<FakeGeneration>(number, 0, std::vector<uint32_t>{0, 1, 0, 1, 1}, 2, 4));
  }
  {
    grpc::ClientContext context;
    v1::PinGenerationRequest request;
    request.set_generation(1);
    request.set_pinned(true);
    v1::PinGenerationResponse response;
    ASSERT_TRUE(mining_->PinGeneration(&context, request, &response).ok());
    EXPECT_TRUE(response.generation().pinned());
  }
  {
    grpc::ClientContext context;
    v1::RetireGenerationRequest request;
    request.set_generation(2);
    v1::RetireGenerationResponse response;
    EXPECT_EQ(mining_->RetireGeneration(&context, request, &response).error_code(),
              grpc::StatusCode::FAILED_PRECONDITION);
  }
  {
    grpc::ClientContext context;
    v1::DiffGenerationsRequest request;
    request.set_from(1);
    v1::DiffGenerationsResponse response;
    ASSERT_TRUE(mining_->DiffGenerations(&context, request, &response).ok());
    EXPECT_EQ(response.to(), 2U);
    EXPECT_EQ(response.common(), 5U);
    EXPECT_EQ(response.moved(), 0U);
  }
  {
    grpc::ClientContext context;
    v1::RollbackResponse response;
    ASSERT_TRUE(mining_->Rollback(&context, {}, &response).ok());
    EXPECT_TRUE(response.generation().active());
  }
}

TEST_F(ControlServicesTest, LooksIntoGenerations) {
  miner_->AddGeneration(std::make_shared<FakeGeneration>(1, 0, std::vector<uint32_t>{0, 1, 0, 1, 1}, 2, 4));
  {
    grpc::ClientContext context;
    v1::GetSubspaceRequest request;
    request.set_subspace(1);
    v1::GetSubspaceResponse response;
    ASSERT_TRUE(mining_->GetSubspace(&context, request, &response).ok());
    EXPECT_EQ(response.members_size(), 3);
  }
  grpc::ClientContext context;
  v1::FindLookalikesRequest request;
  request.set_identity("#3");
  request.set_pictures(true);
  v1::FindLookalikesResponse response;
  ASSERT_TRUE(mining_->FindLookalikes(&context, request, &response).ok());
  EXPECT_EQ(response.lookalikes_size(), 4);
  EXPECT_NE(response.identity().picture(), "");
}

TEST_F(ControlServicesTest, SetsThePolicy) {
  v1::SetPolicyRequest request;
  request.mutable_policy()->set_min_active_share(3);
  v1::SetPolicyResponse set;
  {
    grpc::ClientContext context;
    EXPECT_EQ(mining_->SetPolicy(&context, request, &set).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  }
  request.mutable_policy()->set_min_active_share(0.5);
  {
    grpc::ClientContext context;
    EXPECT_TRUE(mining_->SetPolicy(&context, request, &set).ok());
  }
  grpc::ClientContext context;
  v1::GetPolicyResponse got;
  ASSERT_TRUE(mining_->GetPolicy(&context, {}, &got).ok());
  EXPECT_EQ(got.policy().min_active_share(), 0.5);
}

TEST_F(ControlServicesTest, WatchSendsEventsAndProgress) {
  v1::Operation job = RunningJob();
  grpc::ClientContext context;
  const auto reader = mining_->Watch(&context, {});
  v1::WatchResponse event;
  ASSERT_TRUE(reader->Read(&event)) << "what is running, first";
  EXPECT_EQ(event.operation().id(), "job");
  job.set_state(v1::Operation::STATE_RUNNING);
  job.set_phase("cluster");
  miner_->SetOperation(job);
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.operation().phase(), "cluster");
  v1::WatchResponse retired;
  retired.set_retired(9);
  miner_->AddEvent(retired);
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.retired(), 9U);
  EXPECT_EQ(event.sequence(), 1U);
  context.TryCancel();
  while (reader->Read(&event)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(ControlServicesTest, WatchEndsWhenTheServerDrains) {
  grpc::ClientContext context;
  const auto reader = mining_->Watch(&context, {});
  reader->WaitForInitialMetadata();
  server_->Drain();
  v1::WatchResponse event;
  while (reader->Read(&event)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(ControlServicesTest, AStalledJobIsNamedAndHasAHealthOfItsOwn) {
  RunningJob();
  EXPECT_EQ(Health(kJobsHealth), 1);
  miner_->SetStalled("job");
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (Health(kJobsHealth) != 2 && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(20));
  EXPECT_EQ(Health(kJobsHealth), 2);
  EXPECT_EQ(Health(""), 1) << "streams go on";
  EXPECT_EQ(Health("doppel.v1.MiningService"), 1);
  grpc::ClientContext context;
  v1::DescribeResponse response;
  ASSERT_TRUE(mining_->Describe(&context, {}, &response).ok());
  EXPECT_EQ(response.stalled_operation(), "job");
  miner_->SetStalled("");
  while (Health(kJobsHealth) != 1 && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(20));
  EXPECT_EQ(Health(kJobsHealth), 1);
}

}  // namespace
}  // namespace doppel
