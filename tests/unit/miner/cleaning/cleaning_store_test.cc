#include "miner/cleaning/cleaning_store.h"

#include <gtest/gtest.h>

#include "common/io/fault_file_system.h"
#include "common/io/memory_file_system.h"

namespace doppel {
namespace {

constexpr char kPath[] = "/state/cleaning.rec";

std::unique_ptr<CleaningStore> OpenStore(FileSystem& fs) {
  static const ManualClock* const clock = new ManualClock();
  return CleaningStore::Open(fs, kPath, *clock).value();
}

std::vector<v1::CleaningSubject> Subjects(const std::vector<std::string>& ids) {
  std::vector<v1::CleaningSubject> subjects;
  for (const std::string& id : ids) subjects.push_back(ParseSubjectId(id).value());
  return subjects;
}

v1::FindingsReplaced OneFinding(const std::string& id) {
  v1::FindingsReplaced findings;
  v1::Finding* finding = findings.add_findings();
  *finding->mutable_subject() = ParseSubjectId(id).value();
  finding->set_probability(1);
  findings.add_summaries()->set_kind(finding->subject().kind());
  findings.mutable_summaries(0)->set_threshold(0.5);
  return findings;
}

TEST(CleaningStoreTest, ReadingMakesNoFile) {
  InMemoryFileSystem fs;
  EXPECT_TRUE(OpenStore(fs)->State().MakeGuardList().value().empty());
  EXPECT_FALSE(fs.Exists(kPath));
}

TEST(CleaningStoreTest, EverythingOutlastsAPowerCut) {
  InMemoryFileSystem fs;
  {
    const auto store = OpenStore(fs);
    ASSERT_TRUE(store->ReplaceFindings(OneFinding("pair-1-2")).ok());
    ASSERT_TRUE(store->Decide(Subjects({"pair-3-4", "pair-5-6"}), v1::Decision::VERDICT_MERGE, "seen").ok());
    ASSERT_EQ(store->Undo(0).value().number(), 2u);
    fs.DropUnsynced();
  }
  const CleaningState state = OpenStore(fs)->State();
  EXPECT_EQ(state.MakeGuardList().value().pairs(), (std::vector<GuardList::Pair>{{1, 2}, {3, 4}}));
  EXPECT_EQ(state.DecisionOn("pair-3-4")->note(), "seen");
  EXPECT_EQ(state.DecisionOn("pair-3-4")->decided_at(), "1970-01-01T00:00:00+00:00");
  EXPECT_EQ(state.next_number(), 3u);
}

TEST(CleaningStoreTest, ATornTailIsCutOff) {
  InMemoryFileSystem fs;
  ASSERT_TRUE(OpenStore(fs)->Decide(Subjects({"pair-1-2"}), v1::Decision::VERDICT_MERGE, "").ok());
  const uint64_t good = fs.Size(kPath).value();
  ASSERT_TRUE(OpenStore(fs)->Decide(Subjects({"pair-3-4"}), v1::Decision::VERDICT_MERGE, "").ok());
  const uint64_t whole = fs.Size(kPath).value();
  const std::string bytes = fs.ReadFile(kPath).value();
  for (uint64_t size = good; size < whole; size += 9) {
    for (const char* suffix : {"", ".copy"}) {
      const auto file = fs.Create(std::string(kPath) + suffix).value();
      ASSERT_TRUE(file->Append(bytes.substr(0, size)).ok());
    }
    const auto store = OpenStore(fs);
    EXPECT_EQ(store->State().next_number(), 2u) << size;
    ASSERT_TRUE(store->Decide(Subjects({"sample-8"}), v1::Decision::VERDICT_DROP, "").ok());
    EXPECT_TRUE(OpenStore(fs)->State().MakeGuardList().value().Dropped(8));
  }
}

TEST(CleaningStoreTest, DamageOfOneFileIsMendedAndOfBothAnError) {
  InMemoryFileSystem fs;
  auto store = OpenStore(fs);
  ASSERT_TRUE(store->Decide(Subjects({"pair-1-2"}), v1::Decision::VERDICT_MERGE, "a note").ok());
  ASSERT_TRUE(store->Decide(Subjects({"pair-3-4"}), v1::Decision::VERDICT_MERGE, "a note").ok());
  store.reset();
  const std::string good = fs.ReadFile(kPath).value();
  std::string bytes = good;
  bytes[20] = static_cast<char>(bytes[20] ^ 1);
  ASSERT_TRUE(fs.Create(kPath).value()->Append(bytes).ok());
  EXPECT_EQ(OpenStore(fs)->State().next_number(), 3u);
  EXPECT_EQ(fs.ReadFile(kPath).value(), good);
  for (const char* path : {"", ".copy"}) {
    ASSERT_TRUE(fs.Create(std::string(kPath) + path).value()->Append(bytes).ok());
  }
  EXPECT_EQ(CleaningStore::Open(fs, kPath, Clock::Real()).status().code(), absl::StatusCode::kDataLoss);
}

TEST(CleaningStoreTest, WhatWasNotAcknowledgedAfterAFaultIsAllOrNothing) {
  for (uint64_t call = 0;; ++call) {
    InMemoryFileSystem disk;
    FaultInjectingFileSystem fs(disk);
    FaultInjectingFileSystem::Fault fault;
    fault.call = call;
    fault.lasting = FaultInjectingFileSystem::Lasting::kForGood;
    fault.short_write = 0.5;
    fs.Inject(fault);
    const auto store = OpenStore(fs);
    const bool first = store->Decide(Subjects({"pair-1-2"}), v1::Decision::VERDICT_MERGE, "").ok();
    const bool second =
        store->Decide(Subjects({"pair-3-4", "pair-5-6"}), v1::Decision::VERDICT_MERGE, "").ok();
    disk.DropUnsynced();
    const GuardList list = OpenStore(disk)->State().MakeGuardList().value();
    if (first) {
      EXPECT_TRUE(list.Guarded(1, 2));
    }
    EXPECT_EQ(list.Guarded(3, 4), list.Guarded(5, 6));
    if (second) {
      EXPECT_TRUE(list.Guarded(3, 4));
    }
    if (fs.calls() <= call) break;
  }
}

TEST(CleaningStoreTest, OldFindingsAreLeftOutWhenOpened) {
  InMemoryFileSystem fs;
  {
    const auto store = OpenStore(fs);
    for (int i = 1; i < 20; ++i) {
      ASSERT_TRUE(store->ReplaceFindings(OneFinding("pair-0-" + std::to_string(i))).ok());
    }
    ASSERT_TRUE(store->Decide(Subjects({"pair-3-4"}), v1::Decision::VERDICT_MERGE, "").ok());
  }
  const uint64_t before = fs.Size(kPath).value();
  EXPECT_EQ(OpenStore(fs)->State().findings().findings(0).subject().second_identity(), 19u);
  EXPECT_LT(fs.Size(kPath).value(), before / 4);
  EXPECT_TRUE(OpenStore(fs)->State().MakeGuardList().value().Guarded(3, 4));
}

TEST(CleaningStoreTest, RefusalsChangeNothing) {
  InMemoryFileSystem fs;
  const auto store = OpenStore(fs);
  EXPECT_FALSE(store->Decide({}, v1::Decision::VERDICT_KEEP, "").ok());
  EXPECT_FALSE(store->Decide(Subjects({"pair-1-2", "sample-3"}), v1::Decision::VERDICT_MERGE, "").ok());
  EXPECT_EQ(store->Undo(0).status().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(store->Decide(Subjects({"pair-1-2"}), v1::Decision::VERDICT_KEEP, "").ok());
  EXPECT_EQ(store->Undo(7).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(store->Undo(1).value().number(), 1u);
  EXPECT_EQ(store->State().next_number(), 2u);
}

}  // namespace
}  // namespace doppel
