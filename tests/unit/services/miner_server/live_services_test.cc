// The model store, reports and range streams over real gRPC, in front of a real miner.
#include "services/miner_server/live_services.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/catalog/sample_selection.h"
#include "common/io/crc32c.h"
#include "common/model/model_directory.h"
#include "doppel/v1/batches.grpc.pb.h"
#include "miner/miner.h"
#include "services/miner_server/miner_server.h"
#include "tests/support/catalog_fixture.h"
#include "tests/unit/miner/generation/mining_fixture.h"
#include "trainer/stream/embedding_reporter.h"
#include "trainer/stream/model_client.h"
#include "trainer/stream/model_publisher.h"

namespace doppel {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class LiveServicesTest : public ::testing::Test {
 protected:
  LiveServicesTest() : fixture_(FixtureOptions()) {
    MinerOptions options;
    options.catalog = fixture_.catalog();
    options.state_directory = fixture_.temp() + "/state";
    options.live_snapshot_interval = absl::ZeroDuration();
    miner_ = Miner::Open(std::move(options)).value();
    StartServer();
  }
  void StartServer() {
    MinerServerOptions options;
    options.steering = fixture_.temp() + "/state/steering";
    server_.reset();
    server_ = MinerServer::Start(miner_, std::move(options)).value();
    channel_ = grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials());
    models_ = v1::ModelService::NewStub(channel_);
    reports_ = v1::ReportService::NewStub(channel_);
    embedding_ = v1::EmbeddingService::NewStub(channel_);
  }
  static testing::CatalogFixtureOptions FixtureOptions() {
    testing::CatalogFixtureOptions options;
    options.identities = 6;
    options.samples_per_identity = 5;
    options.image_size = 8;
    return options;
  }

  static v1::ModelDescription Describe(const std::string& weights, uint64_t step) {
    ModelSpec spec;
    spec.architecture = "glyph_cnn";
    spec.dimension = 2;
    spec.step = step;
    spec.fingerprint = WeightsFingerprint(weights);
    v1::ModelDescription model;
    model.set_hash(spec.fingerprint);
    model.set_model_json(ModelSpecToJson(spec));
    model.set_bytes(weights.size());
    model.set_publisher("test");
    return model;
  }
  // Sends `weights` from `offset` up to `end` and half-closes; the end of the call.
  grpc::Status Send(const v1::ModelDescription& model, const std::string& weights, size_t offset,
                    size_t end) {
    grpc::ClientContext context;
    v1::PublishModelResponse response;
    const auto writer = models_->PublishModel(&context, &response);
    v1::PublishModelRequest request;
    *request.mutable_begin()->mutable_model() = model;
    request.mutable_begin()->set_offset(offset);
    writer->Write(request);
    request.set_chunk(weights.substr(offset, end - offset));
    writer->Write(request);
    writer->WritesDone();
    return writer->Finish();
  }
  v1::DescribeRepresentationsResponse Representations() {
    grpc::ClientContext context;
    v1::DescribeRepresentationsRequest request;
    request.add_identities(1);
    v1::DescribeRepresentationsResponse response;
    EXPECT_TRUE(reports_->DescribeRepresentations(&context, request, &response).ok());
    return response;
  }
  std::pair<std::vector<v1::FetchRangeResponse>, grpc::Status> FetchRange(
      const v1::FetchRangeRequest& request) {
    grpc::ClientContext context;
    const auto reader = embedding_->FetchRange(&context, request);
    std::vector<v1::FetchRangeResponse> responses;
    v1::FetchRangeResponse response;
    while (reader->Read(&response)) responses.push_back(response);
    return {responses, reader->Finish()};
  }
  v1::FetchRangeRequest Range(uint64_t first, uint64_t count) {
    v1::FetchRangeRequest request;
    request.set_catalog_fingerprint(fixture_.catalog()->fingerprint());
    request.set_first_identity(first);
    request.set_identity_count(count);
    return request;
  }

  testing::CatalogFixture fixture_;
  std::shared_ptr<Miner> miner_;
  std::unique_ptr<MinerServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::ModelService::Stub> models_;
  std::unique_ptr<v1::ReportService::Stub> reports_;
  std::unique_ptr<v1::EmbeddingService::Stub> embedding_;
};

TEST_F(LiveServicesTest, PublishesListsAndFetchesAModel) {
  std::string weights;
  for (int i = 0; i < 400000; ++i) absl::StrAppend(&weights, i);
  const auto client = MakeGrpcModelClient(server_->address());
  const auto published = client->Publish(Describe(weights, 7), weights, absl::Seconds(10));
  ASSERT_TRUE(published.ok()) << published.status();
  EXPECT_TRUE(published->created());
  const auto list = client->List();
  ASSERT_EQ(list->models_size(), 1);
  EXPECT_EQ(list->models(0).step(), 7u);
  EXPECT_TRUE(list->models(0).latest());

  std::string fetched;
  v1::ModelDescription description;
  ModelClient::Sink sink;
  sink.begin = [&](const v1::ModelDescription& model) {
    description = model;
    return absl::OkStatus();
  };
  sink.chunk = [&](absl::string_view chunk) {
    fetched.append(chunk.data(), chunk.size());
    return absl::OkStatus();
  };
  ASSERT_TRUE(client->Fetch("latest", 0, sink).ok());
  EXPECT_EQ(fetched, weights);
  EXPECT_EQ(description.publisher(), "test");
  fetched.clear();
  ASSERT_TRUE(client->Fetch(description.hash().substr(0, 12), weights.size() - 10, sink).ok());
  EXPECT_EQ(fetched, weights.substr(weights.size() - 10));
  EXPECT_TRUE(absl::IsOutOfRange(client->Fetch("latest", weights.size() + 1, sink)));
  EXPECT_TRUE(absl::IsNotFound(client->Fetch("0123456789", 0, sink)));
  sink.chunk = [](absl::string_view) { return absl::ResourceExhaustedError("the disk is full"); };
  EXPECT_TRUE(absl::IsResourceExhausted(client->Fetch("latest", 0, sink)));
}

TEST_F(LiveServicesTest, ABrokenPublicationGoesOnWhereItStopped) {
  const std::string weights(3000000, 'w');
  const v1::ModelDescription model = Describe(weights, 1);
  EXPECT_EQ(Send(model, weights, 0, 1000000).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  grpc::ClientContext context;
  v1::QueryModelRequest query;
  query.set_hash(model.hash());
  v1::QueryModelResponse there;
  ASSERT_TRUE(models_->QueryModel(&context, query, &there).ok());
  EXPECT_EQ(there.bytes(), 1000000u);
  EXPECT_EQ(Send(model, weights, 0, weights.size()).error_code(), grpc::StatusCode::OUT_OF_RANGE);
  const auto client = MakeGrpcModelClient(server_->address());
  ASSERT_TRUE(client->Publish(model, weights, absl::Seconds(10)).ok());
  EXPECT_EQ(miner_->models()->FindChecked("latest")->hash(), model.hash());
}

TEST_F(LiveServicesTest, WrongBytesNeverBecomeAModel) {
  const std::string weights(1000, 'w');
  EXPECT_EQ(Send(Describe(std::string(1000, 'x'), 1), weights, 0, 1000).error_code(),
            grpc::StatusCode::DATA_LOSS);
  EXPECT_EQ(miner_->models()->List().models_size(), 0);
}

TEST_F(LiveServicesTest, APublicationMustBegin) {
  grpc::ClientContext context;
  v1::PublishModelResponse response;
  const auto writer = models_->PublishModel(&context, &response);
  v1::PublishModelRequest request;
  request.set_chunk("weights");
  writer->Write(request);
  writer->WritesDone();
  EXPECT_EQ(writer->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(LiveServicesTest, ThePublisherSendsInTheBackground) {
  const std::string weights = "background weights";
  {
    ModelPublisher publisher(MakeGrpcModelClient(server_->address()));
    publisher.Publish(Describe(weights, 3), weights);
  }
  EXPECT_EQ(miner_->models()->Find("latest")->step(), 3u);
}

TEST_F(LiveServicesTest, ReclustersByTheLatestModelOrSaysThatThereIsNone) {
  v1::ReclusterRequest request;
  request.set_model_path("latest");
  request.set_subspaces(2);
  EXPECT_TRUE(absl::IsFailedPrecondition(miner_->Recluster(request).status()));
  const std::string weights = "weights";
  ASSERT_TRUE(MakeGrpcModelClient(server_->address())
                  ->Publish(Describe(weights, 5), weights, absl::Seconds(10))
                  .ok());
  const auto operation = miner_->Recluster(request);
  ASSERT_TRUE(operation.ok()) << operation.status();
  EXPECT_EQ(operation->request().model_path(), miner_->models()->Find("latest")->directory());
  ASSERT_TRUE(miner_->CancelOperation(operation->id()).ok());
}

TEST_F(LiveServicesTest, ReportsBecomeMeansThatARunCanBeClusteredBy) {
  EXPECT_EQ(Representations().run(), "");
  EmbeddingReporterOptions options;
  options.address = server_->address();
  options.run = "runs/a#1";
  options.batches_per_message = 2;
  {
    const auto reporter = MakeGrpcEmbeddingReporter(options);
    for (uint64_t step = 0; step < 6; ++step) {
      BatchReport batch;
      batch.model_step = step;
      batch.generation = 1;
      batch.subspace = 4;
      batch.loss = 0.5;
      batch.active_share = 0.25;
      batch.dimension = 2;
      const auto identity = static_cast<int64_t>(step);
      batch.identities = {identity, identity};
      batch.embeddings = {0, 3, 0, 5};
      reporter->Offer(std::move(batch));
    }
  }
  const v1::DescribeRepresentationsResponse described = Representations();
  EXPECT_EQ(described.run(), "runs/a#1");
  EXPECT_EQ(described.seen(), 6u);
  EXPECT_EQ(described.model_step(), 5u);
  EXPECT_EQ(described.identity(0).samples(), 2u);
  EXPECT_EQ(described.identity(0).staleness(), 4u);
  EXPECT_EQ(described.identity(0).name(), "id000001");

  grpc::ClientContext context;
  v1::ListSubspaceHardnessResponse hardness;
  ASSERT_TRUE(reports_->ListSubspaceHardness(&context, {}, &hardness).ok());
  ASSERT_EQ(hardness.subspaces_size(), 1);
  EXPECT_EQ(hardness.subspaces(0).subspace(), 4u);
  EXPECT_NEAR(hardness.subspaces(0).active_share(), 0.25, 1e-9);

  v1::ReclusterRequest request;
  request.mutable_representation_source()->set_kind(v1::RepresentationSource::KIND_LIVE);
  request.set_subspaces(1);
  const auto operation = miner_->Recluster(request);
  ASSERT_TRUE(operation.ok()) << operation.status();
  const auto done = miner_->WaitOperation(operation->id(), absl::Seconds(60));
  ASSERT_EQ(done->state(), v1::Operation::STATE_SUCCEEDED) << done->error();
  const auto generation = miner_->GetGeneration(done->generation());
  ASSERT_TRUE(generation.ok());
  EXPECT_THAT((*generation)->info().model_fingerprint(), HasSubstr("live:runs/a#1@5"));
  EXPECT_EQ((*generation)->info().model_step(), 5u);
  EXPECT_THAT((*generation)->Representation(3), ElementsAre(0, 1));
}

TEST_F(LiveServicesTest, LiveIsRefusedWithoutCoverage) {
  v1::ReclusterRequest request;
  request.mutable_representation_source()->set_kind(v1::RepresentationSource::KIND_LIVE);
  const auto refused = miner_->Recluster(request);
  EXPECT_TRUE(absl::IsFailedPrecondition(refused.status()));
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("no trainer has reported"));
}

TEST_F(LiveServicesTest, AnIdentityBeyondTheCatalogIsNamed) {
  grpc::ClientContext context;
  v1::DescribeRepresentationsRequest request;
  request.add_identities(6);
  v1::DescribeRepresentationsResponse response;
  const grpc::Status status = reports_->DescribeRepresentations(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(LiveServicesTest, ARangeIsStreamedInTheOrderOfEmbedding) {
  v1::FetchRangeRequest request = Range(2, 3);
  request.set_samples_per_identity(2);
  request.set_seed(9);
  const auto [responses, status] = FetchRange(request);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(responses[0].table().first_samples(), ElementsAre(10, 15, 20));
  EXPECT_THAT(responses[0].table().samples(), ElementsAre(5, 5, 5));
  EXPECT_EQ(responses[0].table().names(1), "id000003");
  std::vector<uint64_t> wanted, got;
  for (uint64_t identity : {2, 3, 4}) {
    for (uint64_t k : {0, 1}) wanted.push_back(identity * 5 + SelectedSample(5, 2, 9, identity, k));
  }
  for (const v1::FetchRangeResponse& response : responses) {
    for (const v1::RangeSample& sample : response.samples()) {
      got.push_back(sample.sample());
      EXPECT_EQ(sample.encoded(), fixture_.catalog()->Read(sample.sample())->data);
      EXPECT_EQ(Crc32c(sample.encoded()), sample.crc32c());
    }
  }
  EXPECT_EQ(got, wanted);

  request.set_skip(4);
  const auto rest = FetchRange(request);
  ASSERT_TRUE(rest.second.ok());
  ASSERT_EQ(rest.first.size(), 2u);
  EXPECT_EQ(rest.first[1].samples_size(), 2);
  EXPECT_EQ(rest.first[1].samples(0).sample(), wanted[4]);
}

TEST_F(LiveServicesTest, AListOfIdentitiesIsStreamed) {
  v1::FetchRangeRequest request = Range(0, 2);
  request.add_identities(5);
  request.add_identities(1);
  const auto [responses, status] = FetchRange(request);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(responses[0].table().first_samples(), ElementsAre(25, 5));
  ASSERT_EQ(responses[1].samples_size(), 10);
  EXPECT_EQ(responses[1].samples(0).sample(), 25u);
  EXPECT_EQ(responses[1].samples(9).sample(), 9u);
  request.add_identities(6);
  EXPECT_EQ(FetchRange(request).second.error_code(), grpc::StatusCode::OUT_OF_RANGE);
}

TEST_F(LiveServicesTest, RangesOfAnotherCatalogAreRefused) {
  v1::FetchRangeRequest request = Range(0, 1);
  request.set_catalog_fingerprint("another");
  EXPECT_EQ(FetchRange(request).second.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(FetchRange(Range(6, 1)).second.error_code(), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(FetchRange(Range(0, 7)).second.error_code(), grpc::StatusCode::OUT_OF_RANGE);
}

// ---- clients without a miner

TEST(EmbeddingReporterTest, AveragesPerIdentity) {
  BatchReport batch;
  batch.dimension = 2;
  batch.identities = {7, 7, 9, 7, 9};
  batch.embeddings = {2, 0, 0, 5, 3, 4, 0, 0, NAN, 1};
  const v1::StepReport report = MeanPerIdentity(batch);
  EXPECT_THAT(report.identities(), ElementsAre(7, 9));
  EXPECT_THAT(report.samples(), ElementsAre(2, 1)) << "vectors without a direction are left out";
  float means[4];
  ASSERT_EQ(report.embeddings().size(), sizeof means);
  memcpy(means, report.embeddings().data(), sizeof means);
  EXPECT_THAT(means, ElementsAre(0.5F, 0.5F, 0.6F, 0.8F));
}

TEST(EmbeddingReporterTest, DropsTheOldestWhenTheMinerIsAway) {
  EmbeddingReporterOptions options;
  options.address = "127.0.0.1:1";
  options.run = "a";
  options.queue = 4;
  options.pause = absl::Milliseconds(10);
  const auto reporter = MakeGrpcEmbeddingReporter(options);
  for (int i = 0; i < 20; ++i) reporter->Offer(BatchReport());
  EXPECT_GE(reporter->counters().dropped, 16u);
  EXPECT_EQ(reporter->counters().reported, 0u);
}

TEST(ModelPublisherTest, WhatWaitsIsReplacedByWhatIsNewer) {
  ModelPublisher publisher(MakeGrpcModelClient("127.0.0.1:1"), absl::Minutes(5), absl::ZeroDuration());
  for (int i = 0; i < 5; ++i) publisher.Publish(v1::ModelDescription(), "w");
  EXPECT_GE(publisher.counters().superseded, 3u);
  EXPECT_EQ(publisher.counters().published, 0u);
}

// What trainers report steers: the policy, and plans that ask for it.
class SteeringServiceTest : public LiveServicesTest {
 protected:
  void Mine() {
    v1::ReclusterRequest request;
    request.set_model_path(WriteModel(fixture_.temp() + "/model", "weights-a", 2));
    request.set_subspaces(1);
    request.set_min_size(1);
    request.set_neighbours(4);
    const auto started = miner_->Recluster(request);
    ASSERT_TRUE(started.ok()) << started.status();
    EmbedUntilOver(*miner_, started->id(), 2, 2);
    ASSERT_EQ(miner_->WaitOperation(started->id(), absl::Seconds(60))->state(),
              v1::Operation::STATE_SUCCEEDED);
  }
  static v1::StreamSpec Steered() {
    v1::StreamSpec spec;
    v1::PlanSpec& plan = *spec.mutable_plan();
    plan.set_name("look_alikes");
    plan.set_identities_per_batch(4);
    plan.set_samples_per_identity(2);
    plan.set_group_size(2);
    plan.mutable_steering()->set_run("host:/run");
    plan.mutable_steering()->set_active_low(0.05);
    plan.mutable_steering()->set_active_high(0.1);
    plan.mutable_steering()->set_window(10);
    spec.set_payload(v1::PAYLOAD_KIND_REFERENCE);
    spec.set_seed(3);
    return spec;
  }
  v1::Batch Get(v1::StreamSpec spec, uint64_t cursor) {
    spec.set_cursor(cursor);
    grpc::ClientContext context;
    v1::GetBatchRequest request;
    *request.mutable_spec() = spec;
    v1::GetBatchResponse response;
    const grpc::Status status = v1::BatchService::NewStub(channel_)->GetBatch(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.batch();
  }
  void Report(uint64_t cursor, double active, uint64_t step) {
    grpc::ClientContext context;
    v1::ReportStepsRequest request;
    request.set_run("host:/run");
    v1::StepReport& report = *request.add_steps();
    report.set_generation(1);
    report.set_cursor(cursor);
    report.set_subspace(-1);
    report.set_model_step(step);
    report.set_active_share(active);
    report.set_dimension(2);
    v1::ReportStepsResponse response;
    EXPECT_TRUE(reports_->ReportSteps(&context, request, &response).ok());
  }
  v1::ListSteeringResponse Steering() {
    grpc::ClientContext context;
    v1::ListSteeringResponse response;
    EXPECT_TRUE(reports_->ListSteering(&context, {}, &response).ok());
    return response;
  }
};

TEST_F(SteeringServiceTest, ReportsReachThePolicy) {
  Mine();
  EXPECT_LT(miner_->GetPolicy().active_share(), 0);
  for (uint64_t i = 0; i < RunningMeanManager::kFewestBatches; ++i) Report(i, 0.03, 880 + i);
  EXPECT_NEAR(miner_->GetPolicy().active_share(), 0.03, 1e-9);
  EXPECT_EQ(miner_->GetPolicy().staleness_steps(), 880 + RunningMeanManager::kFewestBatches - 1 - 700);
  v1::ReclusterPolicySpec policy;
  policy.set_min_active_share(0.05);
  policy.set_min_interval_seconds(1e6);
  ASSERT_TRUE(miner_->SetPolicy(policy).ok());
  EXPECT_THAT(miner_->GetPolicy().verdict(), HasSubstr("of the triplets are active"));
}

TEST_F(SteeringServiceTest, ABandMovesTheHardShareAndTheStreamCanBeReplayed) {
  Mine();
  std::vector<std::string> sent;
  for (uint64_t cursor = 0; cursor < 60; ++cursor) {
    const v1::Batch batch = Get(Steered(), cursor);
    sent.push_back(batch.SerializeAsString());
    Report(cursor, 0.9, 800 + cursor);
  }
  EXPECT_FALSE(Get(Steered(), 0).has_decision());
  const v1::Batch last = Get(Steered(), 59);
  ASSERT_TRUE(last.has_decision());
  EXPECT_LT(last.decision().hard_share(), 0.5);
  EXPECT_DOUBLE_EQ(last.decision().active_share(), 0.9);
  EXPECT_LE(last.decision().from_cursor(), 59U);
  StartServer();
  for (uint64_t cursor = 0; cursor < 60; ++cursor)
    EXPECT_EQ(Get(Steered(), cursor).SerializeAsString(), sent[cursor]);
  // And by the facts alone.
  ASSERT_EQ(Steering().plans_size(), 1);
  v1::StreamSpec facts = Steered();
  *facts.mutable_plan() = Steering().plans(0).plan();
  EXPECT_GT(facts.plan().hardness_size(), 0);
  EXPECT_FALSE(facts.plan().has_steering());
  for (uint64_t cursor = 0; cursor < 60; ++cursor)
    EXPECT_EQ(Get(facts, cursor).SerializeAsString(), sent[cursor]);
}

TEST_F(SteeringServiceTest, WhatCannotBeSteeredIsRefused) {
  Mine();
  v1::StreamSpec spec = Steered();
  spec.mutable_plan()->mutable_steering()->clear_run();
  grpc::ClientContext context;
  v1::GetBatchRequest request;
  *request.mutable_spec() = spec;
  v1::GetBatchResponse response;
  const grpc::Status status = v1::BatchService::NewStub(channel_)->GetBatch(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("steering.run"));
}

}  // namespace
}  // namespace doppel
