#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "doppel/v1/mining.grpc.pb.h"
#include "services/miner_server/miner_server.h"
#include "tests/support/catalog_fixture.h"
#include "tests/support/fake_generation.h"
#include "tests/unit/services/miner_server/fake_miner.h"
#include "tests/unit/services/miner_server/stream_client.h"
#include "trainer/stream/grpc_batch_source.h"

namespace doppel {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr auto kEncoded = v1::PAYLOAD_KIND_ENCODED;
constexpr auto kReference = v1::PAYLOAD_KIND_REFERENCE;
constexpr auto kDecoded = v1::PAYLOAD_KIND_DECODED;

class BatchServiceTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    testing::CatalogFixtureOptions options;
    options.identities = 40;
    options.test_identities = 8;
    options.samples_per_identity = 5;
    options.image_size = 16;
    fixture_ = new testing::CatalogFixture(options);
  }
  static void TearDownTestSuite() { delete fixture_; }

  BatchServiceTest() : miner_(std::make_shared<FakeMiner>(fixture_->catalog())) {}

  void Start(MinerServerOptions options = {}) { server_ = MinerServer::Start(miner_, options).value(); }

  // Numbers count up with every call.
  void AddGeneration(uint32_t subspaces = 2) {
    auto generation =
        std::make_shared<FakeGeneration>(++generations_, First(), Assignment(subspaces), subspaces, 16);
    generation->mutable_info().set_catalog_fingerprint(fixture_->catalog()->fingerprint());
    generation->mutable_info().set_split("train");
    miner_->AddGeneration(generation);
  }
  static uint64_t First() { return fixture_->catalog()->Split("train").value().first_identity; }
  static std::vector<uint32_t> Assignment(uint32_t subspaces) {
    std::vector<uint32_t> assignment(32);
    for (uint32_t i = 0; i < 32; ++i) assignment[i] = i % subspaces;
    return assignment;
  }

  v1::DescribeResponse Describe() {
    auto stub = v1::MiningService::NewStub(TestChannel(server_->address()));
    grpc::ClientContext context;
    v1::DescribeResponse response;
    EXPECT_TRUE(stub->Describe(&context, {}, &response).ok());
    return response;
  }
  // As Prometheus reads it; -1: there is none.
  double Metric(const std::string& name) {
    httplib::Client http("127.0.0.1", server_->http_port());
    const httplib::Result answer = http.Get("/metrics");
    if (!answer) return -1;
    for (absl::string_view line : absl::StrSplit(answer->body, '\n')) {
      double value = 0;
      if (absl::ConsumePrefix(&line, name + " ") && absl::SimpleAtod(line, &value)) return value;
    }
    return -1;
  }
  grpc::Status GetBatch(const v1::StreamSpec& spec, v1::Batch* batch, const std::string& address = "") {
    auto stub = v1::BatchService::NewStub(TestChannel(address.empty() ? server_->address() : address));
    grpc::ClientContext context;
    v1::GetBatchRequest request;
    *request.mutable_spec() = spec;
    v1::GetBatchResponse response;
    const grpc::Status status = stub->GetBatch(&context, request, &response);
    *batch = response.batch();
    return status;
  }

  static testing::CatalogFixture* fixture_;
  std::shared_ptr<FakeMiner> miner_;
  uint64_t generations_ = 0;
  std::unique_ptr<MinerServer> server_;
};
testing::CatalogFixture* BatchServiceTest::fixture_ = nullptr;

TEST_F(BatchServiceTest, OpenedTellsServerCatalogAndCoverage) {
  Start();
  StreamClient client(server_->address());
  client.Open(SpecOf("random", 4, 2));
  const v1::StreamOpened opened = client.ReadOpened();
  EXPECT_EQ(opened.incarnation(), server_->incarnation());
  EXPECT_EQ(opened.generation(), 0u);
  EXPECT_EQ(opened.catalog_fingerprint(), fixture_->catalog()->fingerprint());
  EXPECT_EQ(opened.identities_covered(), 32u);
  EXPECT_EQ(opened.batches_per_epoch(), 8u);
}

TEST_F(BatchServiceTest, BatchesAreDistinctIdentitiesTimesSamples) {
  Start();
  StreamClient client(server_->address());
  client.Open(SpecOf("random", 4, 3));
  client.Grant(5);
  client.ReadOpened();
  for (uint64_t cursor = 0; cursor < 5; ++cursor) {
    const v1::Batch batch = client.ReadBatch().value();
    EXPECT_EQ(batch.cursor(), cursor);
    ASSERT_EQ(batch.samples_size(), 12);
    std::set<uint64_t> identities;
    for (const v1::Sample& sample : batch.samples()) {
      identities.insert(sample.identity());
      EXPECT_EQ(sample.encoded(), std::string(fixture_->catalog()->Read(sample.sample()).value().data));
    }
    EXPECT_EQ(identities.size(), 4u);
  }
}

TEST_F(BatchServiceTest, NeverSendsMoreThanItHoldsCreditsFor) {
  Start();
  StreamClient client(server_->address());
  client.Open(SpecOf("random", 4, 2));
  client.Grant(2);
  client.Grant(1);
  client.HalfClose();
  client.ReadOpened();
  int batches = 0;
  while (client.ReadBatch().has_value()) ++batches;
  EXPECT_EQ(batches, 3);
  EXPECT_TRUE(client.Finish().ok());
  EXPECT_EQ(Describe().batches_sent(), 3u);
}

TEST_F(BatchServiceTest, SendsNothingWithoutCredit) {
  Start();
  StreamClient client(server_->address());
  client.Open(SpecOf("random", 4, 2));
  client.ReadOpened();
  client.HalfClose();
  EXPECT_FALSE(client.ReadBatch().has_value());
  EXPECT_TRUE(client.Finish().ok());
}

TEST_F(BatchServiceTest, CreditAboveTheLimitEndsTheStreamAndNamesIt) {
  MinerServerOptions options;
  options.max_credits = 3;
  Start(options);
  StreamClient client(server_->address());
  client.Open(SpecOf("random", 4, 2));
  client.Grant(4);
  const grpc::Status status = client.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("max_credits = 3"));
}

TEST_F(BatchServiceTest, MaxBatchesEndsTheStreamInOrder) {
  Start();
  StreamClient client(server_->address());
  v1::StreamSpec spec = SpecOf("random", 4, 2);
  spec.set_cursor(7);
  spec.set_max_batches(2);
  client.Open(spec);
  client.Grant(10);
  client.ReadOpened();
  EXPECT_EQ(client.ReadBatch().value().cursor(), 7u);
  EXPECT_EQ(client.ReadBatch().value().cursor(), 8u);
  EXPECT_FALSE(client.ReadBatch().has_value());
  EXPECT_TRUE(client.Finish().ok());
}

TEST_F(BatchServiceTest, BigBatchesTravelInParts) {
  MinerServerOptions options;
  options.part_bytes = 1024;
  Start(options);
  StreamClient client(server_->address());
  client.Open(SpecOf("random", 8, 5));
  client.Grant(1);
  client.ReadOpened();
  EXPECT_EQ(client.ReadBatch().value().samples_size(), 40);
  EXPECT_GT(client.parts(), 2u);
}

TEST_F(BatchServiceTest, AcknowledgementsAreCounted) {
  Start();
  StreamClient client(server_->address());
  v1::StreamSpec spec = SpecOf("random", 4, 2);
  spec.set_cursor(100);
  spec.set_client_name("test");
  client.Open(spec);
  client.Grant(4);
  client.ReadOpened();
  for (int i = 0; i < 4; ++i) client.ReadBatch();
  client.Acknowledge(99);  // of an earlier stream
  client.Acknowledge(101);
  client.Acknowledge(102);
  EXPECT_TRUE(Eventually([&] { return Describe().batches_acknowledged() == 3; }));
  const v1::DescribeResponse description = Describe();
  ASSERT_EQ(description.streams_size(), 1);
  EXPECT_EQ(description.streams(0).client_name(), "test");
  EXPECT_EQ(description.streams(0).plan(), "random");
  EXPECT_EQ(description.streams(0).next_cursor(), 104u);
  EXPECT_EQ(description.streams(0).acknowledged(), 102u);
  EXPECT_EQ(description.streams(0).credits(), 0u);
  EXPECT_GT(description.bytes_sent(), 1000u);
}

TEST_F(BatchServiceTest, AcknowledgingWhatWasNotSentIsRefused) {
  Start();
  StreamClient client(server_->address());
  client.Open(SpecOf("random", 4, 2));
  client.ReadOpened();
  client.Acknowledge(0);
  EXPECT_EQ(client.Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(BatchServiceTest, FirstMessageMustBeOpenAndOnlyTheFirst) {
  Start();
  StreamClient impatient(server_->address());
  impatient.Grant(1);
  EXPECT_EQ(impatient.Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  StreamClient twice(server_->address());
  twice.Open(SpecOf("random", 4, 2));
  twice.Open(SpecOf("random", 4, 2));
  EXPECT_EQ(twice.Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  StreamClient empty(server_->address());
  empty.Open(SpecOf("random", 4, 2));
  empty.Send(v1::StreamBatchesRequest());
  EXPECT_EQ(empty.Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(BatchServiceTest, HangingUpWithoutOpeningIsFine) {
  Start();
  StreamClient client(server_->address());
  client.HalfClose();
  EXPECT_TRUE(client.Finish().ok());
}

TEST_F(BatchServiceTest, InvalidRequestsNameTheField) {
  AddGeneration();
  Start();
  using Change = std::function<void(v1::StreamSpec&)>;
  const std::vector<std::pair<std::string, Change>> cases = {
      {"plan.name", [](v1::StreamSpec& s) { s.mutable_plan()->clear_name(); }},
      {"unheard-of", [](v1::StreamSpec& s) { s.mutable_plan()->set_name("unheard-of"); }},
      {"plan.identities_per_batch", [](v1::StreamSpec& s) { s.mutable_plan()->set_identities_per_batch(0); }},
      {"plan.samples_per_identity", [](v1::StreamSpec& s) { s.mutable_plan()->set_samples_per_identity(0); }},
      {"max_batch_samples", [](v1::StreamSpec& s) { s.mutable_plan()->set_samples_per_identity(1u << 31); }},
      {"identities_per_batch", [](v1::StreamSpec& s) { s.mutable_plan()->set_identities_per_batch(33); }},
      {"payload", [](v1::StreamSpec& s) { s.clear_payload(); }},
      {"payload", [](v1::StreamSpec& s) { s.set_payload(static_cast<v1::PayloadKind>(9)); }},
      {"image.channels", [](v1::StreamSpec& s) { s.mutable_image()->set_channels(2); }},
      {"image.height", [](v1::StreamSpec& s) { s.mutable_image()->set_height(100000); }},
      {"image.width", [](v1::StreamSpec& s) { s.mutable_image()->set_width(100000); }},
  };
  for (const auto& [field, change] : cases) {
    v1::StreamSpec spec = SpecOf("random", 4, 2, kDecoded);
    change(spec);
    StreamClient client(server_->address());
    client.Open(spec);
    const grpc::Status status = client.Finish();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT)
        << field << ": " << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr(field));
    v1::Batch batch;
    EXPECT_EQ(GetBatch(spec, &batch).error_code(), grpc::StatusCode::INVALID_ARGUMENT) << field;
  }
}

TEST_F(BatchServiceTest, UnknownSplitAndGenerationAreNotFound) {
  AddGeneration();
  Start();
  v1::Batch batch;
  v1::StreamSpec spec = SpecOf("random", 4, 2);
  spec.set_generation(9);
  EXPECT_EQ(GetBatch(spec, &batch).error_code(), grpc::StatusCode::NOT_FOUND);
  spec.clear_generation();
  spec.mutable_plan()->set_split("nowhere");
  EXPECT_THAT(GetBatch(spec, &batch).error_message(), HasSubstr("nowhere"));
}

TEST_F(BatchServiceTest, SubspaceNeedsAGenerationAndSaysHowToGetOne) {
  Start();
  StreamClient client(server_->address());
  client.Open(SpecOf("subspace", 4, 2));
  const grpc::Status status = client.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("doppel recluster"));
}

TEST_F(BatchServiceTest, SubspaceBatchesComeFromOneSubspace) {
  AddGeneration(2);
  Start();
  StreamClient client(server_->address());
  client.Open(SpecOf("subspace", 4, 2));
  client.Grant(4);
  EXPECT_EQ(client.ReadOpened().generation(), 1u);
  for (int i = 0; i < 4; ++i) {
    const v1::Batch batch = client.ReadBatch().value();
    EXPECT_EQ(batch.generation(), 1u);
    for (const v1::Sample& sample : batch.samples()) {
      EXPECT_EQ(static_cast<int32_t>((sample.identity() - First()) % 2), batch.subspace());
    }
    EXPECT_NE(batch.mean_similarity(), 0);
    EXPECT_GE(batch.max_similarity(), batch.mean_similarity());
  }
}

TEST_F(BatchServiceTest, FollowsTheActiveGenerationBetweenBatches) {
  AddGeneration();
  Start();
  StreamClient client(server_->address());
  client.Open(SpecOf("subspace", 4, 2));
  client.Grant(1);
  client.ReadOpened();
  EXPECT_EQ(client.ReadBatch().value().generation(), 1u);
  AddGeneration(4);
  client.Grant(1);
  const v1::Batch batch = client.ReadBatch().value();
  EXPECT_EQ(batch.generation(), 2u);
  EXPECT_EQ(batch.cursor(), 1u);
  for (const v1::Sample& sample : batch.samples()) {
    EXPECT_EQ(static_cast<int32_t>((sample.identity() - First()) % 4), batch.subspace());
  }
}

TEST_F(BatchServiceTest, StaysOnAPinnedGeneration) {
  AddGeneration();
  AddGeneration();
  Start();
  v1::StreamSpec spec = SpecOf("subspace", 4, 2);
  spec.set_generation(1);
  StreamClient client(server_->address());
  client.Open(spec);
  client.Grant(2);
  client.ReadOpened();
  EXPECT_EQ(client.ReadBatch().value().generation(), 1u);
  AddGeneration();
  EXPECT_EQ(client.ReadBatch().value().generation(), 1u);
}

TEST_F(BatchServiceTest, RandomPicksUpTheFirstGenerationThatAppears) {
  Start();
  StreamClient client(server_->address());
  client.Open(SpecOf("random", 4, 2));
  client.Grant(1);
  client.ReadOpened();
  EXPECT_EQ(client.ReadBatch().value().generation(), 0u);
  AddGeneration();
  client.Grant(1);
  EXPECT_EQ(client.ReadBatch().value().generation(), 1u);
}

TEST_F(BatchServiceTest, NewGenerationThatDoesNotFitThePlanEndsTheStream) {
  AddGeneration(2);
  Start();
  StreamClient client(server_->address());
  client.Open(SpecOf("subspace", 10, 2));
  client.Grant(1);
  client.ReadOpened();
  client.ReadBatch();
  AddGeneration(8);  // of 4 identities each
  client.Grant(1);
  const grpc::Status status = client.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("active now"));
}

TEST_F(BatchServiceTest, GetBatchGivesTheBytesOfTheStream) {
  AddGeneration();
  MinerServerOptions options;
  options.part_bytes = 2048;
  Start(options);
  for (v1::PayloadKind payload : {kEncoded, kReference, kDecoded}) {
    v1::StreamSpec spec = SpecOf("subspace", 5, 3, payload);
    spec.set_cursor(20);
    StreamClient client(server_->address());
    client.Open(spec);
    client.Grant(3);
    client.ReadOpened();
    for (uint64_t cursor = 20; cursor < 23; ++cursor) {
      const v1::Batch streamed = client.ReadBatch().value();
      spec.set_cursor(cursor);
      v1::Batch fetched;
      ASSERT_TRUE(GetBatch(spec, &fetched).ok());
      EXPECT_EQ(fetched.SerializeAsString(), streamed.SerializeAsString());
    }
  }
}

TEST_F(BatchServiceTest, TwoServersWithOtherThreadsGiveTheSameBytes) {
  AddGeneration();
  MinerServerOptions one, four;
  one.batch_threads = 1;
  four.batch_threads = 4;
  const auto first = MinerServer::Start(miner_, one).value();
  const auto second = MinerServer::Start(miner_, four).value();
  for (v1::PayloadKind payload : {kEncoded, kDecoded}) {
    StreamClient a(first->address()), b(second->address());
    for (StreamClient* client : {&a, &b}) {
      client->Open(SpecOf("subspace", 8, 5, payload));
      client->Grant(6);
      client->ReadOpened();
    }
    for (int i = 0; i < 6; ++i)
      EXPECT_EQ(a.ReadBatch().value().SerializeAsString(), b.ReadBatch().value().SerializeAsString());
  }
}

TEST_F(BatchServiceTest, DecodedTakesTheFirstImagesSizeByDefault) {
  Start();
  v1::Batch batch;
  ASSERT_TRUE(GetBatch(SpecOf("random", 4, 2, kDecoded), &batch).ok());
  EXPECT_EQ(batch.image().height(), 16u);
  EXPECT_EQ(batch.image().width(), 16u);
  EXPECT_EQ(batch.image().channels(), 1u);
  EXPECT_EQ(batch.pixels().size(), 8u * 16 * 16);
}

TEST_F(BatchServiceTest, DrainEndsStreamsAtABorderWithTheNextCursor) {
  MinerServerOptions options;
  options.part_bytes = 1024;  // so that a batch has an inside
  Start(options);
  StreamClient client(server_->address());
  v1::StreamSpec spec = SpecOf("random", 8, 4);
  spec.set_cursor(50);
  client.Open(spec);
  client.Grant(60);
  client.ReadOpened();
  uint64_t next = 50;
  while (next < 55) next = client.ReadBatch().value().cursor() + 1;
  server_->Drain();
  while (auto batch = client.ReadBatch()) next = batch->cursor() + 1;
  const grpc::Status status = client.Finish();
  if (next < 110) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_THAT(status.error_message(), HasSubstr(absl::StrCat("continue at cursor ", next)));
  }
}

TEST_F(BatchServiceTest, DrainEndsIdleStreamsAndRefusesNewOnes) {
  Start();
  StreamClient idle(server_->address());
  idle.Open(SpecOf("random", 4, 2));
  idle.ReadOpened();
  server_->Drain();
  EXPECT_THAT(idle.Finish().error_message(), HasSubstr("continue at cursor 0"));
  StreamClient late(server_->address());
  late.Open(SpecOf("random", 4, 2));
  EXPECT_EQ(late.Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(BatchServiceTest, CancelledStreamIsForgotten) {
  Start();
  {
    StreamClient client(server_->address());
    client.Open(SpecOf("random", 4, 2));
    client.Grant(60);
    client.ReadOpened();
    client.ReadBatch();
    EXPECT_EQ(Describe().open_streams(), 1u);
    client.Cancel();
    EXPECT_EQ(client.Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  EXPECT_TRUE(Eventually([&] { return Describe().open_streams() == 0; }));
}

TEST_F(BatchServiceTest, ShutdownCancelsAClientThatDoesNotRead) {
  Start();
  StreamClient stalled(server_->address());
  stalled.Open(SpecOf("random", 32, 5, kDecoded));
  stalled.Grant(64);
  server_->Shutdown(absl::Milliseconds(20));
  EXPECT_FALSE(stalled.Finish().ok());
}

TEST_F(BatchServiceTest, ManyStreamsAtOnceGetTheirOwnBatches) {
  Start();
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([this, t] {
      StreamClient client(server_->address());
      v1::StreamSpec spec = SpecOf("random", 4, 2);
      spec.set_cursor(1000 * t);
      client.Open(spec);
      client.ReadOpened();
      for (uint64_t i = 0; i < 30; ++i) {
        client.Grant(1);
        EXPECT_EQ(client.ReadBatch().value().cursor(), 1000 * t + i);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(BatchServiceTest, LastOf64StreamsIsServedWhileTheOthersDoNotRead) {
  Start();
  std::vector<std::unique_ptr<StreamClient>> clients;
  clients.reserve(64);
  for (int i = 0; i < 64; ++i) {
    clients.push_back(std::make_unique<StreamClient>(server_->address()));
    v1::StreamSpec spec = SpecOf("random", 4, 2, i % 4 == 0 ? kDecoded : kEncoded);
    spec.set_seed(i);
    clients.back()->Open(spec);
    clients.back()->Grant(6);
  }
  for (auto client = clients.rbegin(); client != clients.rend(); ++client) {
    (*client)->ReadOpened();
    for (uint64_t cursor = 0; cursor < 6; ++cursor) EXPECT_EQ((*client)->ReadBatch()->cursor(), cursor);
  }
  // Nobody is ahead of what they asked for.
  const v1::DescribeResponse description = Describe();
  EXPECT_EQ(description.streams_size(), 64);
  for (const v1::StreamInfo& stream : description.streams()) EXPECT_EQ(stream.next_cursor(), 6u);
}

// Memory for one batch of OfSixMegabytes at a time.
MinerServerOptions LittleMemory() {
  MinerServerOptions options;
  options.http_port = 0;
  options.limits.queued_batch_bytes = 4 << 20;
  options.limits.max_unread_seconds = 0.3;
  return options;
}
v1::StreamSpec OfSixMegabytes(uint64_t cursor = 0) {
  v1::StreamSpec spec = SpecOf("random", 4, 2, kDecoded);
  spec.mutable_image()->set_height(512);
  spec.mutable_image()->set_width(512);
  spec.mutable_image()->set_channels(3);
  spec.set_cursor(cursor);
  return spec;
}

TEST_F(BatchServiceTest, ClientThatDoesNotReadIsCutOffWhenOthersWaitForMemory) {
  Start(LittleMemory());
  StreamClient stalled(server_->address());
  stalled.Open(OfSixMegabytes());
  stalled.ReadOpened();
  stalled.Grant(8);
  ASSERT_TRUE(Eventually([this] { return Describe().streams(0).next_cursor() == 1; }));
  // Nobody waits: it may take its time.
  EXPECT_DOUBLE_EQ(Metric("doppel_miner_unread_total"), 0);
  v1::Batch batch;
  EXPECT_TRUE(GetBatch(OfSixMegabytes(5), &batch).ok());
  EXPECT_EQ(batch.cursor(), 5u);
  EXPECT_EQ(stalled.Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_DOUBLE_EQ(Metric("doppel_miner_unread_total"), 1);
  // It comes back where it was.
  StreamClient again(server_->address());
  again.Open(OfSixMegabytes());
  again.Grant(2);
  again.ReadOpened();
  EXPECT_EQ(again.ReadBatch()->cursor(), 0u);
  EXPECT_EQ(again.ReadBatch()->cursor(), 1u);
}

TEST_F(BatchServiceTest, BatchesWithoutACreditMakeRoomAndAreBuiltAgain) {
  Start(LittleMemory());
  StreamClient idle(server_->address());
  idle.Open(OfSixMegabytes());
  idle.ReadOpened();
  ASSERT_TRUE(Eventually([this] { return Metric("doppel_miner_queued_batch_bytes") > 6e6; }));
  StreamClient busy(server_->address());
  busy.Open(OfSixMegabytes(7));
  busy.Grant(3);
  busy.ReadOpened();
  for (uint64_t cursor = 7; cursor < 10; ++cursor) EXPECT_EQ(busy.ReadBatch()->cursor(), cursor);
  idle.Grant(3);
  for (uint64_t cursor = 0; cursor < 3; ++cursor) EXPECT_EQ(idle.ReadBatch()->cursor(), cursor);
  EXPECT_DOUBLE_EQ(Metric("doppel_miner_unread_total"), 0);
}

TEST_F(BatchServiceTest, ManyHugeBatchesTakeTurns) {
  Start(LittleMemory());
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 6; ++t) {
    threads.emplace_back([this, t] {
      StreamClient client(server_->address());
      client.Open(OfSixMegabytes(10 * t));
      client.Grant(4);
      client.ReadOpened();
      for (uint64_t i = 0; i < 4; ++i) EXPECT_EQ(client.ReadBatch()->cursor(), 10 * t + i);
      v1::Batch batch;
      EXPECT_TRUE(GetBatch(OfSixMegabytes(t), &batch).ok());
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(Eventually([this] { return Metric("doppel_miner_queued_batch_bytes") == 0; }));
}

TEST_F(BatchServiceTest, DecodedBatchesBuiltAheadKeepTheirOrderAndEqualGetBatch) {
  MinerServerOptions options;
  options.batch_threads = 3;
  Start(options);
  v1::StreamSpec spec = SpecOf("random", 4, 2, kDecoded);
  spec.mutable_augmentation()->set_rotate_degrees(10);
  StreamClient client(server_->address());
  client.Open(spec);
  client.Grant(20);
  client.ReadOpened();
  for (uint64_t cursor = 0; cursor < 20; ++cursor) {
    const v1::Batch streamed = client.ReadBatch().value();
    ASSERT_EQ(streamed.cursor(), cursor);
    if (cursor % 7 != 0) continue;
    spec.set_cursor(cursor);
    v1::Batch fetched;
    EXPECT_TRUE(GetBatch(spec, &fetched).ok());
    EXPECT_EQ(fetched.SerializeAsString(), streamed.SerializeAsString());
  }
}

TEST_F(BatchServiceTest, TrainersSourceSurvivesARestartOnTheSamePort) {
  Start();
  MinerServerOptions options;
  options.listen = server_->address();
  GrpcBatchSourceOptions source_options;
  source_options.address = server_->address();
  source_options.spec = SpecOf("random", 4, 2);
  source_options.spec.set_max_batches(60);
  const auto source = MakeGrpcBatchSource(source_options);
  std::vector<std::string> batches;
  for (int i = 0; i < 10; ++i) batches.push_back(ToProto(source->Next().value()).SerializeAsString());
  source->Acknowledge(9);
  server_.reset();
  Start(options);
  while (true) {
    const absl::StatusOr<ReceivedBatch> batch = source->Next();
    if (!batch.ok()) {
      EXPECT_EQ(batch.status().code(), absl::StatusCode::kOutOfRange) << batch.status();
      break;
    }
    batches.push_back(ToProto(*batch).SerializeAsString());
  }
  ASSERT_EQ(batches.size(), 60u);
  for (size_t cursor = 0; cursor < 60; cursor += 7) {
    v1::StreamSpec spec = SpecOf("random", 4, 2);
    spec.set_cursor(cursor);
    v1::Batch fetched;
    ASSERT_TRUE(GetBatch(spec, &fetched).ok());
    EXPECT_EQ(batches[cursor], fetched.SerializeAsString());
  }
}

}  // namespace
}  // namespace doppel
