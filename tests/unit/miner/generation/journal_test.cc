#include "miner/generation/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "common/io/fault_file_system.h"
#include "common/io/memory_file_system.h"

namespace doppel {
namespace {

using testing::HasSubstr;

// Three operations that publish and activate, one of them fails.
std::vector<v1::MinerUpdate> History() {
  std::vector<v1::MinerUpdate> updates;
  for (uint64_t i = 1; i <= 3; ++i) {
    v1::MinerUpdate started;
    started.mutable_operation_started()->set_id(absl::StrCat("op-", i));
    started.mutable_operation_started()->set_generation(i);
    updates.push_back(started);
    if (i != 2) {
      updates.emplace_back().mutable_generation_published()->set_generation(i);
      updates.emplace_back().mutable_generation_activated()->set_generation(i);
    }
    v1::OperationEnded& ended = *updates.emplace_back().mutable_operation_ended();
    ended.set_id(absl::StrCat("op-", i));
    ended.set_state(i == 2 ? v1::Operation::STATE_FAILED : v1::Operation::STATE_SUCCEEDED);
  }
  return updates;
}

TEST(JournalTest, ReplayEqualsTheLiveState) {
  InMemoryFileSystem fs;
  MinerState live;
  auto journal = Journal::Open(fs, "/journal", live);
  ASSERT_TRUE(journal.ok()) << journal.status();
  for (const v1::MinerUpdate& update : History()) {
    ASSERT_TRUE((*journal)->Append({update}).ok());
    ASSERT_TRUE(live.Apply(update).ok());
    fs.DropUnsynced();
    MinerState replayed;
    journal = Journal::Open(fs, "/journal", replayed);
    ASSERT_TRUE(journal.ok()) << journal.status();
    EXPECT_EQ(replayed.DebugString(), live.DebugString());
  }
  EXPECT_EQ(live.active(), 3U);
}

TEST(JournalTest, ACrashAtEveryCallLeavesAPrefixWithAllThatWasAcknowledged) {
  const std::vector<v1::MinerUpdate> history = History();
  for (uint64_t call = 0;; ++call) {
    InMemoryFileSystem disk;
    FaultInjectingFileSystem faulty(disk);
    faulty.Inject({call, FaultInjectingFileSystem::Error::kIo, FaultInjectingFileSystem::Lasting::kForGood,
                   call % 2 == 0 ? 0.5 : 0.0});
    size_t acknowledged = 0;
    {
      MinerState state;
      const auto journal = Journal::Open(faulty, "/journal", state);
      if (journal.ok()) {
        while (acknowledged < history.size() && (*journal)->Append({history[acknowledged]}).ok())
          ++acknowledged;
      }
    }
    if (call % 3 != 0) disk.DropUnsynced();
    MinerState recovered;
    const auto journal = Journal::Open(disk, "/journal", recovered);
    ASSERT_TRUE(journal.ok()) << "call " << call << ": " << journal.status();
    MinerState expected;
    for (size_t i = 0; i < acknowledged; ++i) ASSERT_TRUE(expected.Apply(history[i]).ok());
    if (recovered.DebugString() != expected.DebugString()) {
      // At most the fact that was on its way.
      ASSERT_LT(acknowledged, history.size());
      ASSERT_TRUE(expected.Apply(history[acknowledged]).ok());
      EXPECT_EQ(recovered.DebugString(), expected.DebugString()) << "call " << call;
    }
    if (acknowledged == history.size()) break;
    ASSERT_LT(call, 100U);
  }
}

TEST(JournalTest, AfterAFailedWriteEverythingIsRefused) {
  InMemoryFileSystem disk;
  FaultInjectingFileSystem faulty(disk);
  MinerState state;
  auto journal = Journal::Open(faulty, "/journal", state);
  ASSERT_TRUE(journal.ok());
  faulty.Inject({faulty.calls(), FaultInjectingFileSystem::Error::kNoSpace});
  EXPECT_FALSE((*journal)->Append({History()[0]}).ok());
  const absl::Status status = (*journal)->Append({History()[0]});
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/journal"));
}

TEST(JournalTest, ContradictingRecordsAreNamedDamage) {
  InMemoryFileSystem fs;
  {
    MinerState state;
    auto journal = Journal::Open(fs, "/journal", state);
    v1::MinerUpdate update;
    update.mutable_generation_activated()->set_generation(9);
    ASSERT_TRUE((*journal)->Append({update}).ok());
  }
  MinerState state;
  const absl::Status status = Journal::Open(fs, "/journal", state).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/journal: record 0"));
}

void FlipByte(FileSystem& fs, const std::string& path, size_t at) {
  std::string data = *fs.ReadFile(path);
  data[at] = static_cast<char>(data[at] ^ 1);
  ASSERT_TRUE((*fs.Create(path))->Append(data).ok());
}

TEST(JournalTest, AFlippedBitAnywhereInOneOfTheFilesLosesNothing) {
  MinerState whole;
  for (const v1::MinerUpdate& update : History()) ASSERT_TRUE(whole.Apply(update).ok());
  InMemoryFileSystem fs;
  {
    MinerState state;
    ASSERT_TRUE((*Journal::Open(fs, "/journal", state))->Append(History()).ok());
  }
  const size_t size = *fs.Size("/journal");
  for (const char* path : {"/journal", "/journal.copy"}) {
    for (size_t at = 0; at < size; ++at) {
      FlipByte(fs, path, at);
      MinerState state;
      const auto journal = Journal::Open(fs, "/journal", state);
      ASSERT_TRUE(journal.ok()) << path << " " << at << journal.status();
      ASSERT_EQ(state.DebugString(), whole.DebugString()) << path << " " << at;
      ASSERT_EQ(*fs.ReadFile("/journal"), *fs.ReadFile("/journal.copy"));
    }
  }
}

TEST(JournalTest, DamageOfBothFilesIsNamed) {
  InMemoryFileSystem fs;
  {
    MinerState state;
    ASSERT_TRUE((*Journal::Open(fs, "/journal", state))->Append(History()).ok());
  }
  FlipByte(fs, "/journal", 20);
  FlipByte(fs, "/journal.copy", 50);
  MinerState state;
  const absl::Status status = Journal::Open(fs, "/journal", state).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/journal: record 0"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("/journal.copy: record"));
}

TEST(JournalTest, ALostFileIsMadeAgainFromTheOther) {
  for (const char* path : {"/journal", "/journal.copy"}) {
    InMemoryFileSystem fs;
    {
      MinerState state;
      ASSERT_TRUE((*Journal::Open(fs, "/journal", state))->Append(History()).ok());
    }
    ASSERT_TRUE(fs.Remove(path).ok());
    MinerState state;
    ASSERT_TRUE(Journal::Open(fs, "/journal", state).ok()) << path;
    EXPECT_EQ(state.active(), 3U);
    EXPECT_EQ(*fs.ReadFile("/journal"), *fs.ReadFile("/journal.copy"));
  }
}

}  // namespace
}  // namespace doppel
