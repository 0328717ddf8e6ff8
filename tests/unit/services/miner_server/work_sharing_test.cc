#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/io/file_system.h"
#include "services/miner_server/miner_server.h"
#include "services/miner_server/work_group.h"
#include "tests/support/catalog_fixture.h"
#include "tests/unit/services/miner_server/fake_miner.h"
#include "tests/unit/services/miner_server/stream_client.h"
#include "trainer/stream/grpc_batch_source.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;

const absl::Time kStart = absl::FromUnixSeconds(1000);

v1::WorkGroupOpened GroupOf(uint64_t end = 0, uint64_t first = 0, uint64_t seed = 1) {
  v1::WorkGroupOpened opened;
  opened.set_group("g");
  opened.set_seed(seed);
  opened.set_first_cursor(first);
  opened.set_end_cursor(end);
  return opened;
}

// Journals inline: what is acknowledged is answered at once.
class WorkGroupTest : public ::testing::Test {
 protected:
  void Open(const v1::WorkGroupOpened& wanted = GroupOf()) {
    group_ = WorkGroup::Open(*fs_, "/g.rec", wanted, executor_.get()).value();
  }
  WorkGroup::Lease Take(uint64_t stream, absl::Time now = kStart) {
    WorkGroup::Lease lease = group_->TakeLease(stream, absl::Seconds(10), now, [this] { ++wakes_; });
    // The first cursors have to be journalled as given out.
    if (lease.outcome == WorkGroup::Outcome::kWait && wakes_ > 0) {
      wakes_ = 0;
      lease = group_->TakeLease(stream, absl::Seconds(10), now, [this] { ++wakes_; });
    }
    return lease;
  }
  bool Acknowledge(uint64_t cursor) {
    bool first = false;
    EXPECT_TRUE(group_
                    ->Acknowledge(cursor,
                                  [&](const absl::StatusOr<v1::Acknowledged>& answer) {
                                    first = answer.value().first();
                                  })
                    .ok());
    return first;
  }

  std::unique_ptr<FileSystem> fs_ = MakeInMemoryFileSystem();
  std::unique_ptr<Executor> executor_ = MakeThreadPool(0);
  std::shared_ptr<WorkGroup> group_;
  int wakes_ = 0;
};

TEST(WorkGroupStateTest, WatermarkSwallowsWhatFollows) {
  WorkGroupState state;
  v1::WorkGroupUpdate update;
  *update.mutable_opened() = GroupOf(0, 5);
  ASSERT_TRUE(state.Apply(update).ok());
  EXPECT_FALSE(state.Apply(update).ok());  // twice
  for (const uint64_t cursor : {7, 6, 9}) update.mutable_acknowledged()->add_cursors(cursor);
  ASSERT_TRUE(state.Apply(update).ok());
  EXPECT_EQ(state.acknowledged_below(), 5u);
  EXPECT_TRUE(state.IsAcknowledged(6));
  update.mutable_acknowledged()->add_cursors(5);
  ASSERT_TRUE(state.Apply(update).ok());
  EXPECT_EQ(state.acknowledged_below(), 8u);
  WorkGroupState copy;
  for (const v1::WorkGroupUpdate& step : state.Snapshot()) ASSERT_TRUE(copy.Apply(step).ok());
  EXPECT_EQ(copy.acknowledged_below(), 8u);
  EXPECT_TRUE(copy.IsAcknowledged(9));
  EXPECT_FALSE(copy.IsAcknowledged(8));
}

TEST_F(WorkGroupTest, GivesEachCursorOnce) {
  Open(GroupOf(0, 3));
  EXPECT_EQ(Take(1).cursor, 3u);
  EXPECT_EQ(Take(2).cursor, 4u);
  EXPECT_EQ(Take(1).cursor, 5u);
}

TEST_F(WorkGroupTest, DeadStreamsLeasesGoToTheNextFirst) {
  Open();
  for (int i = 0; i < 4; ++i) Take(1 + i % 2);  // 0, 2 for stream 1
  group_->Release(1);
  EXPECT_EQ(Take(3).cursor, 0u);
  EXPECT_EQ(Take(3).cursor, 2u);
  EXPECT_EQ(Take(3).cursor, 4u);
}

TEST_F(WorkGroupTest, LeasesRunOut) {
  Open();
  Take(1);
  EXPECT_EQ(Take(2, kStart + absl::Seconds(9)).cursor, 1u);
  EXPECT_EQ(Take(2, kStart + absl::Seconds(10)).cursor, 0u);
}

TEST_F(WorkGroupTest, CountsEachCursorOnceWhoeverAcknowledges) {
  Open();
  Take(1);
  Take(1);
  EXPECT_TRUE(Acknowledge(1));
  EXPECT_FALSE(Acknowledge(1));
  group_->Release(1);
  EXPECT_TRUE(Acknowledge(0));  // late, but before anybody else
  EXPECT_EQ(Take(2).cursor, 2u);
  EXPECT_EQ(group_->acknowledged_below(), 2u);
}

TEST_F(WorkGroupTest, RefusesWhatWasNeverGivenOut) {
  Open(GroupOf(10));
  Take(1);
  EXPECT_EQ(group_->Acknowledge(10, nullptr).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(WorkGroupTest, EndsWhenNobodyElseHoldsALease) {
  Open(GroupOf(2));
  EXPECT_EQ(Take(1).cursor, 0u);
  EXPECT_EQ(Take(2).cursor, 1u);
  EXPECT_EQ(Take(1).outcome, WorkGroup::Outcome::kWait);
  EXPECT_TRUE(Acknowledge(1));
  EXPECT_GT(wakes_, 0);
  wakes_ = 0;
  EXPECT_EQ(Take(1).outcome, WorkGroup::Outcome::kNothingLeft);
  EXPECT_EQ(Take(2).outcome, WorkGroup::Outcome::kWait);
  EXPECT_EQ(group_->ExpireLeases(kStart), kStart + absl::Seconds(10));
  group_->ExpireLeases(kStart + absl::Seconds(10));
  EXPECT_EQ(wakes_, 1);
  EXPECT_EQ(Take(2, kStart + absl::Seconds(10)).cursor, 0u);
}

TEST_F(WorkGroupTest, NothingAcknowledgedIsLostOrGivenAgainAfterARestart) {
  Open();
  for (int i = 0; i < 6; ++i) Take(1);
  for (const uint64_t cursor : {0, 1, 4}) EXPECT_TRUE(Acknowledge(cursor));
  group_.reset();
  Open();
  EXPECT_EQ(group_->acknowledged_below(), 2u);
  EXPECT_TRUE(Acknowledge(5));  // by a trainer that held it across the restart
  for (const uint64_t cursor : {2, 3, 6}) EXPECT_EQ(Take(1).cursor, cursor);
  EXPECT_FALSE(Acknowledge(4));
}

TEST_F(WorkGroupTest, LongJournalsAreRewritten) {
  Open();
  for (uint64_t i = 0; i < 1200; ++i) {
    Take(1);
    Acknowledge(i);
  }
  const uint64_t before = fs_->Size("/g.rec").value();
  group_.reset();
  Open();
  EXPECT_LT(fs_->Size("/g.rec").value(), before / 10);
  EXPECT_EQ(group_->acknowledged_below(), 1200u);
  EXPECT_EQ(Take(1).cursor, 1200u);
}

TEST_F(WorkGroupTest, AnotherPlanIsRefused) {
  Open();
  const absl::Status status = group_->CheckSame(GroupOf(0, 0, 2));
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("sharing.group"));
  EXPECT_TRUE(group_->CheckSame(GroupOf(0, 100)).ok());
}

class WorkSharingTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    testing::CatalogFixtureOptions options;
    options.identities = 24;
    options.image_size = 8;
    fixture_ = new testing::CatalogFixture(options);
  }
  static void TearDownTestSuite() { delete fixture_; }

  void Start(const std::string& listen = "127.0.0.1:0") {
    MinerServerOptions options;
    options.listen = listen;
    options.work_groups = dir_ / "groups";
    server_ = MinerServer::Start(std::make_shared<FakeMiner>(fixture_->catalog()), options).value();
  }
  GrpcBatchSourceOptions Options(v1::WorkSharing::Mode mode) {
    GrpcBatchSourceOptions options;
    options.address = server_->address();
    options.spec = SpecOf("random", 4, 2);
    options.spec.mutable_sharing()->set_mode(mode);
    if (mode == v1::WorkSharing::MODE_DYNAMIC) options.spec.mutable_sharing()->set_group("all");
    options.credits = 2;
    return options;
  }
  GrpcBatchSourceOptions Shard(uint32_t shard, uint32_t shards, uint64_t cursor, uint64_t batches) {
    GrpcBatchSourceOptions options = Options(v1::WorkSharing::MODE_STATIC);
    options.spec.mutable_sharing()->set_shard(shard);
    options.spec.mutable_sharing()->set_shards(shards);
    options.spec.set_cursor(cursor);
    options.spec.set_max_batches(batches);
    return options;
  }
  std::string Whole(uint64_t cursor) {
    GrpcBatchSourceOptions options = Options(v1::WorkSharing::MODE_INDEPENDENT);
    options.spec.set_cursor(cursor);
    options.spec.set_max_batches(1);
    return ToProto(MakeGrpcBatchSource(options)->Next().value()).SerializeAsString();
  }

  static testing::CatalogFixture* fixture_;
  testing::TempDir dir_;
  std::unique_ptr<MinerServer> server_;
};
testing::CatalogFixture* WorkSharingTest::fixture_ = nullptr;

TEST_F(WorkSharingTest, StaticShardsOfTwoThenThreeThenOneAreOneSequence) {
  Start();
  std::map<uint64_t, std::string> seen;
  const auto pull = [&](uint32_t shards, uint64_t cursor, uint64_t batches) {
    for (uint32_t shard = 0; shard < shards; ++shard) {
      const auto source = MakeGrpcBatchSource(Shard(shard, shards, cursor, batches));
      for (uint64_t i = 0; i < batches; ++i) {
        const ReceivedBatch batch = source->Next().value();
        EXPECT_EQ(batch.cursor() % shards, shard);
        EXPECT_TRUE(seen.emplace(batch.cursor(), ToProto(batch).SerializeAsString()).second);
      }
    }
  };
  pull(2, 0, 5);   // 0 … 9
  pull(3, 10, 4);  // 10 … 21
  pull(1, 22, 3);
  ASSERT_EQ(seen.size(), 25u);
  EXPECT_EQ(seen.rbegin()->first, 24u);
  for (const uint64_t cursor : {0, 9, 10, 17, 24}) EXPECT_EQ(seen[cursor], Whole(cursor));
}

TEST_F(WorkSharingTest, BadShardIsRefused) {
  Start();
  const auto status = MakeGrpcBatchSource(Shard(3, 3, 0, 1))->Next().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("sharing.shard"));
}

TEST_F(WorkSharingTest, DynamicNeedsAStateDirectoryAndAName) {
  server_ = MinerServer::Start(std::make_shared<FakeMiner>(fixture_->catalog()), {}).value();
  EXPECT_EQ(MakeGrpcBatchSource(Options(v1::WorkSharing::MODE_DYNAMIC))->Next().status().code(),
            absl::StatusCode::kFailedPrecondition);
  Start();
  GrpcBatchSourceOptions options = Options(v1::WorkSharing::MODE_DYNAMIC);
  options.spec.mutable_sharing()->set_group("../up");
  EXPECT_EQ(MakeGrpcBatchSource(options)->Next().status().code(), absl::StatusCode::kInvalidArgument);
}

// Everybody acknowledges what they get; the union must be every cursor, each acknowledged first once.
TEST_F(WorkSharingTest, DynamicTrainersComeAndGoAndEveryCursorIsAcknowledgedOnce) {
  Start();
  constexpr uint64_t kEnd = 60;
  GrpcBatchSourceOptions options = Options(v1::WorkSharing::MODE_DYNAMIC);
  options.spec.mutable_sharing()->set_end_cursor(kEnd);
  absl::Mutex mutex;
  std::map<uint64_t, std::string> seen;
  uint64_t acknowledged = 0, acknowledged_before = 0;
  const auto train = [&](uint64_t most) {
    const auto source = MakeGrpcBatchSource(options);
    for (uint64_t i = 0; i < most; ++i) {
      const auto batch = source->Next();
      if (!batch.ok()) {
        EXPECT_EQ(batch.status().code(), absl::StatusCode::kOutOfRange) << batch.status();
        break;
      }
      source->Acknowledge(batch->cursor());
      absl::MutexLock lock(&mutex);
      seen.emplace(batch->cursor(), ToProto(*batch).SerializeAsString());
    }
    source->Cancel();
    absl::MutexLock lock(&mutex);
    acknowledged += source->statistics().acknowledged;
    acknowledged_before += source->statistics().acknowledged_before;
  };
  for (const std::vector<uint64_t>& phase :
       std::vector<std::vector<uint64_t>>{{8, 9}, {7, 6, 8}, {uint64_t{1} << 30}}) {
    std::vector<std::thread> trainers;
    trainers.reserve(phase.size());
    for (const uint64_t most : phase) trainers.emplace_back(train, most);
    for (std::thread& trainer : trainers) trainer.join();
  }
  EXPECT_EQ(seen.size(), kEnd);
  // An answer that a stream's end has cut off is asked for again, and then is not the first one.
  EXPECT_LE(acknowledged, kEnd);
  EXPECT_GE(acknowledged + acknowledged_before, kEnd);
  EXPECT_EQ(MakeGrpcBatchSource(options)->Next().status().code(), absl::StatusCode::kOutOfRange);
  for (const uint64_t cursor : {0, 31, 59}) EXPECT_EQ(seen[cursor], Whole(cursor));
}

TEST_F(WorkSharingTest, DynamicGroupSurvivesTheMiner) {
  Start();
  const std::string address = server_->address();
  GrpcBatchSourceOptions options = Options(v1::WorkSharing::MODE_DYNAMIC);
  const auto source = MakeGrpcBatchSource(options);
  std::set<uint64_t> trained;
  const auto train = [&](int batches) {
    for (int i = 0; i < batches; ++i) {
      const ReceivedBatch batch = source->Next().value();
      EXPECT_TRUE(trained.insert(batch.cursor()).second);
      source->Acknowledge(batch.cursor());
    }
  };
  train(5);
  ASSERT_TRUE(Eventually([&] { return source->statistics().acknowledged == 5; }));
  server_.reset();
  Start(address);
  train(10);
  ASSERT_TRUE(Eventually([&] { return source->statistics().acknowledged == 15; }));
  EXPECT_EQ(*trained.rbegin(), 14u);
}

TEST_F(WorkSharingTest, SilentTrainersBatchesGoToAnother) {
  Start();
  v1::StreamSpec spec = Options(v1::WorkSharing::MODE_DYNAMIC).spec;
  spec.mutable_sharing()->set_lease_seconds(0.05);
  spec.mutable_sharing()->set_end_cursor(2);
  StreamClient silent(server_->address()), other(server_->address());
  silent.Open(spec);
  silent.Grant(1);
  silent.ReadOpened();
  EXPECT_EQ(silent.ReadBatch()->cursor(), 0u);
  spec.mutable_sharing()->set_lease_seconds(0);
  other.Open(spec);
  other.Grant(3);
  other.ReadOpened();
  std::set<uint64_t> cursors = {other.ReadBatch()->cursor(), other.ReadBatch()->cursor()};
  EXPECT_EQ(cursors, (std::set<uint64_t>{0, 1}));
}

TEST(IntegrityTest, FlippedBitOnDiskIsFoundAndNamedWithFileAndOffset) {
  testing::CatalogFixtureOptions fixture_options;
  fixture_options.identities = 4;
  fixture_options.shards = 1;
  fixture_options.image_size = 8;
  const testing::CatalogFixture fixture(fixture_options);
  const Catalog& catalog = *fixture.catalog();
  const SampleRecord record = catalog.Sample(5);
  const std::string path = catalog.SamplePath(5);
  std::string shard = PosixFileSystem().ReadFile(path).value();
  shard[record.offset + record.size / 2] ^= 0x10;
  testing::WriteTestFile(path, shard);
  const auto server = MinerServer::Start(std::make_shared<FakeMiner>(fixture.catalog()), {}).value();
  for (const auto payload : {v1::PAYLOAD_KIND_ENCODED, v1::PAYLOAD_KIND_DECODED}) {
    GrpcBatchSourceOptions options;
    options.address = server->address();
    options.spec = SpecOf("random", 4, 4, payload);  // all of the samples
    const auto source = MakeGrpcBatchSource(options);
    const absl::Status status = source->Next().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(
        std::string(status.message()),
        ::testing::AllOf(HasSubstr("sample 5 "), HasSubstr(absl::StrCat(path, " + ", record.offset))));
    if (payload == v1::PAYLOAD_KIND_ENCODED) {
      EXPECT_EQ(source->statistics().damaged_samples, 4u);
      EXPECT_EQ(source->statistics().batches_fetched_again, 3u);
    }
  }
}

}  // namespace
}  // namespace doppel
