#include "trainer/stream/grpc_batch_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "absl/time/clock.h"
#include "tests/unit/trainer/stream/fake_batch_service.h"

namespace doppel {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

bool Eventually(const std::function<bool()>& condition) {
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

GrpcBatchSourceOptions OptionsFor(const std::string& address, uint64_t max_batches = 0) {
  GrpcBatchSourceOptions options;
  options.address = address;
  options.spec.mutable_plan()->set_name("random");
  options.spec.set_payload(v1::PAYLOAD_KIND_ENCODED);
  options.spec.set_max_batches(max_batches);
  return options;
}

TEST(GrpcBatchSourceTest, DeliversInOrderFromTheCursorAskedForAndEnds) {
  FakeBatchService service;
  FakeServer server(&service);
  GrpcBatchSourceOptions options = OptionsFor(server.address(), 20);
  options.spec.set_cursor(5);
  const auto source = MakeGrpcBatchSource(options);
  for (uint64_t cursor = 5; cursor < 25; ++cursor) {
    EXPECT_EQ(ToProto(source->Next().value()).SerializeAsString(), MakeTestBatch(cursor).SerializeAsString());
  }
  EXPECT_EQ(source->Next().status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(source->Next().status().code(), absl::StatusCode::kOutOfRange);
}

TEST(GrpcBatchSourceTest, GrantsCreditsOnlyAsBatchesAreConsumed) {
  FakeBatchService service;
  FakeServer server(&service);
  GrpcBatchSourceOptions options = OptionsFor(server.address());
  options.credits = 3;
  const auto source = MakeGrpcBatchSource(options);
  ASSERT_TRUE(Eventually([&] { return service.seen().sent == 3; }));
  for (uint64_t consumed = 1; consumed <= 10; ++consumed) {
    ASSERT_TRUE(source->Next().ok());
    ASSERT_TRUE(Eventually([&] { return service.seen().sent == consumed + 3; }));
    EXPECT_LE(service.seen().granted, consumed + 3);
  }
}

TEST(GrpcBatchSourceTest, JoinsParts) {
  FakeBatchService service;
  service.batches = [](uint64_t cursor) {
    v1::Batch first = MakeTestBatch(cursor), second = first;
    first.set_part_count(2);
    second.set_part_count(2);
    second.set_part_index(1);
    first.mutable_samples()->RemoveLast();
    second.mutable_samples()->DeleteSubrange(0, 1);
    return std::vector<v1::Batch>{first, second};
  };
  FakeServer server(&service);
  const auto source = MakeGrpcBatchSource(OptionsFor(server.address(), 2));
  EXPECT_EQ(ToProto(source->Next().value()).SerializeAsString(), MakeTestBatch(0).SerializeAsString());
  EXPECT_EQ(ToProto(source->Next().value()).SerializeAsString(), MakeTestBatch(1).SerializeAsString());
}

TEST(GrpcBatchSourceTest, PassesAcknowledgementsOn) {
  FakeBatchService service;
  FakeServer server(&service);
  const auto source = MakeGrpcBatchSource(OptionsFor(server.address()));
  source->Next().value();
  source->Acknowledge(0);
  EXPECT_TRUE(Eventually([&] { return service.seen().acknowledged == std::vector<uint64_t>{0}; }));
}

TEST(GrpcBatchSourceTest, ComesBackAtTheNextCursorAfterDraining) {
  FakeBatchService service;
  std::atomic<int> drains{0};
  service.batches = [&](uint64_t cursor) -> std::vector<v1::Batch> {
    if (cursor % 5 == 3 && drains.fetch_add(1) % 2 == 0) return {};
    return {MakeTestBatch(cursor)};
  };
  FakeServer server(&service);
  const auto source = MakeGrpcBatchSource(OptionsFor(server.address(), 17));
  for (uint64_t cursor = 0; cursor < 17; ++cursor) EXPECT_EQ(source->Next().value().cursor(), cursor);
  EXPECT_EQ(source->Next().status().code(), absl::StatusCode::kOutOfRange);
  const auto opened = service.seen().opened;
  ASSERT_EQ(opened.size(), 4u);
  EXPECT_EQ(opened[1].cursor(), 3u);
  EXPECT_EQ(opened[1].max_batches(), 14u);
}

TEST(GrpcBatchSourceTest, SurvivesTheServersDeath) {
  FakeBatchService service;
  auto server = std::make_unique<FakeServer>(&service);
  const int port = server->port();
  const auto source = MakeGrpcBatchSource(OptionsFor(server->address()));
  for (uint64_t cursor = 0; cursor < 5; ++cursor) EXPECT_EQ(source->Next().value().cursor(), cursor);
  server.reset();
  server = std::make_unique<FakeServer>(&service, port);
  for (uint64_t cursor = 5; cursor < 40; ++cursor) EXPECT_EQ(source->Next().value().cursor(), cursor);
}

TEST(GrpcBatchSourceTest, WaitsForAServerThatStartsLater) {
  FakeBatchService service;
  auto server = std::make_unique<FakeServer>(&service);
  const int port = server->port();
  server.reset();
  const auto source = MakeGrpcBatchSource(OptionsFor(absl::StrCat("127.0.0.1:", port)));
  server = std::make_unique<FakeServer>(&service, port);
  EXPECT_EQ(source->Next().value().cursor(), 0u);
}

TEST(GrpcBatchSourceTest, GivesUpWhenItsPatienceIsOver) {
  FakeBatchService service;
  auto server = std::make_unique<FakeServer>(&service);
  GrpcBatchSourceOptions options = OptionsFor(server->address());
  server.reset();
  options.patience = absl::Milliseconds(100);
  const auto source = MakeGrpcBatchSource(options);
  const absl::Status status = source->Next().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(options.address), HasSubstr("doppel-miner")));
}

TEST(GrpcBatchSourceTest, OtherErrorsEndItAtOnce) {
  FakeBatchService service;
  service.batches = [](uint64_t) { return std::vector<v1::Batch>(); };
  service.end = grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "payload: is 0");
  FakeServer server(&service);
  const auto source = MakeGrpcBatchSource(OptionsFor(server.address()));
  const absl::Status status = source->Next().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("payload: is 0"));
}

v1::Batch Damaged(uint64_t cursor) {
  v1::Batch batch = MakeTestBatch(cursor);
  (*batch.mutable_samples(1)->mutable_encoded())[0] ^= 1;
  return batch;
}

TEST(GrpcBatchSourceTest, DamagedBatchIsFetchedAgain) {
  FakeBatchService service;
  service.batches = [](uint64_t cursor) {
    return std::vector<v1::Batch>{cursor == 1 ? Damaged(cursor) : MakeTestBatch(cursor)};
  };
  FakeServer server(&service);
  const auto source = MakeGrpcBatchSource(OptionsFor(server.address(), 3));
  for (uint64_t cursor = 0; cursor < 3; ++cursor) {
    EXPECT_EQ(ToProto(source->Next().value()).SerializeAsString(), MakeTestBatch(cursor).SerializeAsString());
  }
  EXPECT_EQ(service.seen().fetched, 1u);
  EXPECT_EQ(source->statistics().damaged_samples, 1u);
  EXPECT_EQ(source->statistics().batches_fetched_again, 1u);
  EXPECT_EQ(source->statistics().batches, 3u);
}

TEST(GrpcBatchSourceTest, BatchThatStaysDamagedIsAnErrorThatNamesTheSample) {
  FakeBatchService service;
  service.batches = [](uint64_t cursor) { return std::vector<v1::Batch>{Damaged(cursor)}; };
  service.get_batch = Damaged;
  FakeServer server(&service);
  GrpcBatchSourceOptions options = OptionsFor(server.address());
  options.spec.set_cursor(4);
  const auto source = MakeGrpcBatchSource(options);
  const absl::Status status = source->Next().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("sample 81 of identity 9"), HasSubstr("batch 4"),
                    HasSubstr("/data/shard.tar + 1001"), HasSubstr("4 times")));
  EXPECT_EQ(service.seen().fetched, 3u);
}

TEST(GrpcBatchSourceTest, ChecksumsMayBeLeftUnchecked) {
  FakeBatchService service;
  service.batches = [](uint64_t cursor) { return std::vector<v1::Batch>{Damaged(cursor)}; };
  FakeServer server(&service);
  GrpcBatchSourceOptions options = OptionsFor(server.address());
  options.verify_checksums = false;
  EXPECT_TRUE(MakeGrpcBatchSource(options)->Next().ok());
}

TEST(GrpcBatchSourceTest, SkippedCursorIsAnError) {
  FakeBatchService service;
  service.batches = [](uint64_t cursor) {
    return std::vector<v1::Batch>{MakeTestBatch(cursor < 2 ? cursor : cursor + 1)};
  };
  FakeServer server(&service);
  const auto source = MakeGrpcBatchSource(OptionsFor(server.address()));
  EXPECT_TRUE(source->Next().ok());
  EXPECT_TRUE(source->Next().ok());
  EXPECT_EQ(source->Next().status().code(), absl::StatusCode::kInternal);
}

TEST(GrpcBatchSourceTest, AnotherCatalogAfterAReconnectIsRefused) {
  FakeBatchService service;
  std::atomic<int> starts{0};
  service.fingerprint = [&] { return absl::StrCat("catalog", starts.fetch_add(1)); };
  service.batches = [](uint64_t cursor) {
    return cursor == 1 ? std::vector<v1::Batch>() : std::vector<v1::Batch>{MakeTestBatch(cursor)};
  };
  FakeServer server(&service);
  const auto source = MakeGrpcBatchSource(OptionsFor(server.address()));
  EXPECT_TRUE(source->Next().ok());
  EXPECT_EQ(source->Next().status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(GrpcBatchSourceTest, CancelWakesNextAndStays) {
  FakeBatchService service;
  auto server = std::make_unique<FakeServer>(&service);
  GrpcBatchSourceOptions options = OptionsFor(server->address());
  server.reset();
  const auto source = MakeGrpcBatchSource(options);
  std::thread canceller([&] { source->Cancel(); });
  EXPECT_EQ(source->Next().status().code(), absl::StatusCode::kCancelled);
  canceller.join();
  EXPECT_EQ(source->Next().status().code(), absl::StatusCode::kCancelled);
}

TEST(GrpcBatchSourceTest, CanBeDroppedWhileBatchesFlow) {
  FakeBatchService service;
  FakeServer server(&service);
  for (int i = 0; i < 10; ++i) {
    const auto source = MakeGrpcBatchSource(OptionsFor(server.address()));
    for (int j = 0; j < i; ++j) EXPECT_TRUE(source->Next().ok());
  }
}

}  // namespace
}  // namespace doppel
