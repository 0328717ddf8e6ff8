#include "miner/representation/representation_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/io/fault_file_system.h"
#include "common/io/memory_file_system.h"

namespace doppel {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int kDimension = 3;

v1::RepresentationPass Pass(uint64_t first, uint64_t identities) {
  v1::RepresentationPass pass;
  pass.set_catalog_fingerprint("catalog");
  pass.set_model_fingerprint("model");
  pass.set_model_step(12);
  pass.set_first_identity(first);
  pass.set_identities(identities);
  pass.set_dimension(kDimension);
  return pass;
}

float Value(uint64_t identity, int d) { return static_cast<float>(identity + 1) * (d == 1 ? 2.0F : 1.0F); }

v1::RepresentationRange Range(uint64_t first, uint64_t count, float scale = 1) {
  v1::RepresentationRange range;
  range.set_first_identity(first);
  range.set_identity_count(count);
  range.set_dimension(kDimension);
  for (uint64_t i = first; i < first + count; ++i) {
    for (int d = 0; d < kDimension; ++d) {
      const float value = scale * Value(i, d);
      range.mutable_representations()->append(reinterpret_cast<const char*>(&value), sizeof value);
    }
    range.add_samples(static_cast<uint32_t>(i + 1));
  }
  return range;
}

class RepresentationStoreTest : public testing::Test {
 protected:
  std::unique_ptr<RepresentationStore> Open(uint64_t first, uint64_t identities) {
    auto store = RepresentationStore::Open(fs_, "/pass", Pass(first, identities));
    EXPECT_TRUE(store.ok()) << store.status();
    return *std::move(store);
  }
  void FlipByte(const std::string& path, size_t at) {
    std::string data = *fs_.ReadFile(path);
    data[at] = static_cast<char>(data[at] ^ 0x40);
    auto file = *fs_.Create(path);
    ASSERT_TRUE(file->Append(data).ok());
    ASSERT_TRUE(file->Close().ok());
  }
  InMemoryFileSystem fs_;
};

TEST_F(RepresentationStoreTest, FreezesUnitRowsInIdentityOrder) {
  auto store = Open(100, 4);
  EXPECT_TRUE(*store->Commit(Range(102, 2)));
  EXPECT_TRUE(*store->Commit(Range(100, 2)));
  const auto frozen = store->Freeze();
  ASSERT_TRUE(frozen.ok()) << frozen.status();
  ASSERT_EQ(frozen->rows.rows, 4);
  ASSERT_EQ(frozen->rows.dimension, kDimension);
  for (int64_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(frozen->rows.row(i)[0], 1 / std::sqrt(6.0), 1e-6);
    EXPECT_NEAR(frozen->rows.row(i)[1], 2 / std::sqrt(6.0), 1e-6);
  }
  EXPECT_THAT(frozen->samples, ElementsAre(101, 102, 103, 104));
}

TEST_F(RepresentationStoreTest, MissingShrinksWithCommits) {
  auto store = Open(0, 10);
  EXPECT_THAT(store->Missing(), ElementsAre(IdentityRange{0, 10}));
  ASSERT_TRUE(store->Commit(Range(2, 3)).ok());
  EXPECT_THAT(store->Missing(), ElementsAre(IdentityRange{0, 2}, IdentityRange{5, 5}));
}

TEST_F(RepresentationStoreTest, FreezingTooEarlyNamesWhatIsMissing) {
  auto store = Open(0, 10);
  ASSERT_TRUE(store->Commit(Range(0, 4)).ok());
  const absl::Status status = store->Freeze().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("[4, 10)"));
}

TEST_F(RepresentationStoreTest, RepeatedCommitsAreAcknowledgedAndNotCounted) {
  auto store = Open(0, 4);
  EXPECT_TRUE(*store->Commit(Range(0, 4)));
  EXPECT_FALSE(*store->Commit(Range(0, 4, -1)));
  ASSERT_TRUE(store->Freeze().ok());
  EXPECT_FALSE(*store->Commit(Range(1, 2)));
  EXPECT_EQ(store->Freeze().status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(RepresentationStoreTest, OverlappingCommitsKeepTheRowsThatCameFirst) {
  {
    auto store = Open(0, 4);
    EXPECT_TRUE(*store->Commit(Range(0, 3)));
    EXPECT_TRUE(*store->Commit(Range(2, 2, -1)));
  }
  const auto frozen = Open(0, 4)->Freeze();  // replay gives the same
  ASSERT_TRUE(frozen.ok());
  EXPECT_GT(frozen->rows.row(2)[0], 0);
  EXPECT_LT(frozen->rows.row(3)[0], 0);
}

TEST_F(RepresentationStoreTest, WhatWasAcknowledgedSurvivesAPowerCut) {
  {
    auto store = Open(0, 30);
    ASSERT_TRUE(store->Commit(Range(0, 10)).ok());
    ASSERT_TRUE(store->Commit(Range(20, 10)).ok());
  }
  fs_.DropUnsynced();
  EXPECT_THAT(Open(0, 30)->Missing(), ElementsAre(IdentityRange{10, 10}));
}

TEST_F(RepresentationStoreTest, ATornTailIsCutOffAndTheRestKept) {
  {
    auto store = Open(0, 30);
    ASSERT_TRUE(store->Commit(Range(0, 10)).ok());
    ASSERT_TRUE(store->Commit(Range(10, 10)).ok());
  }
  const uint64_t size = *fs_.Size("/pass/ranges-000000.rec");
  ASSERT_TRUE(fs_.Truncate("/pass/ranges-000000.rec", size - 5).ok());
  auto store = Open(0, 30);
  EXPECT_THAT(store->Missing(), ElementsAre(IdentityRange{10, 20}));
  EXPECT_TRUE(*store->Commit(Range(10, 20)));
  EXPECT_THAT(Open(0, 30)->Missing(), IsEmpty());
}

TEST_F(RepresentationStoreTest, WhatStandsBeforeDamageIsKeptAndTheRestIsMissing) {
  {
    auto store = Open(0, 30);
    ASSERT_TRUE(store->Commit(Range(0, 10)).ok());
    ASSERT_TRUE(store->Commit(Range(10, 10)).ok());
  }
  FlipByte("/pass/ranges-000000.rec", *fs_.Size("/pass/ranges-000000.rec") - 20);
  auto store = Open(0, 30);
  EXPECT_THAT(store->Missing(), ElementsAre(IdentityRange{10, 20}));
  EXPECT_TRUE(*store->Commit(Range(10, 20)));
  EXPECT_THAT(Open(0, 30)->Missing(), IsEmpty());
}

TEST_F(RepresentationStoreTest, AFileWithADamagedHeaderIsBegunAnew) {
  {
    auto store = Open(0, 30);
    ASSERT_TRUE(store->Commit(Range(0, 10)).ok());
  }
  for (uint64_t at : {3, 20}) {
    FlipByte("/pass/ranges-000000.rec", at);
    auto store = Open(0, 30);
    EXPECT_THAT(store->Missing(), ElementsAre(IdentityRange{0, 30}));
    EXPECT_TRUE(*store->Commit(Range(0, 10)));
  }
}

TEST_F(RepresentationStoreTest, AnotherPassInTheFolderIsRefused) {
  Open(0, 30);
  EXPECT_EQ(RepresentationStore::Open(fs_, "/pass", Pass(0, 31)).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(RepresentationStoreTest, RollsOverToFurtherFilesAndReadsThemAll) {
  RepresentationStore::Options options;
  options.segment_bytes = 300;
  {
    auto store = RepresentationStore::Open(fs_, "/pass", Pass(0, 100), options);
    for (uint64_t i = 0; i < 100; i += 10) ASSERT_TRUE((*store)->Commit(Range(i, 10)).ok());
  }
  EXPECT_GE(fs_.List("/pass")->size(), 3U);
  auto store = *RepresentationStore::Open(fs_, "/pass", Pass(0, 100), options);
  ASSERT_THAT(store->Missing(), IsEmpty());
  EXPECT_EQ(store->Freeze()->samples[99], 100U);
}

TEST_F(RepresentationStoreTest, AFileCutShortBeforeTheLastCostsItsLastRangeOnly) {
  RepresentationStore::Options options;
  options.segment_bytes = 100;
  {
    auto store = RepresentationStore::Open(fs_, "/pass", Pass(0, 100), options);
    for (uint64_t i = 0; i < 100; i += 10) ASSERT_TRUE((*store)->Commit(Range(i, 10)).ok());
  }
  ASSERT_TRUE(fs_.Truncate("/pass/ranges-000000.rec", *fs_.Size("/pass/ranges-000000.rec") - 1).ok());
  for (int time = 0; time < 2; ++time) {
    auto store = *RepresentationStore::Open(fs_, "/pass", Pass(0, 100), options);
    EXPECT_THAT(store->Missing(), ElementsAre(IdentityRange{0, 10}));
  }
}

TEST_F(RepresentationStoreTest, WrongRangesAreRefusedAndChangeNothing) {
  auto store = Open(10, 10);
  std::vector<v1::RepresentationRange> wrong = {Range(9, 2), Range(19, 2), Range(0, 5), Range(30, 1)};
  wrong.push_back(Range(10, 2));
  wrong.back().set_identity_count(std::numeric_limits<uint64_t>::max());  // overflow
  wrong.push_back(Range(10, 0));
  wrong.push_back(Range(10, 2));
  wrong.back().set_dimension(kDimension + 1);
  wrong.push_back(Range(10, 2));
  wrong.back().mutable_representations()->pop_back();
  wrong.push_back(Range(10, 2));
  wrong.back().add_samples(1);
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    wrong.push_back(Range(10, 2));
    std::memcpy(wrong.back().mutable_representations()->data() + 4, &bad, sizeof bad);
  }
  for (const v1::RepresentationRange& range : wrong) {
    EXPECT_EQ(store->Commit(range).status().code(), absl::StatusCode::kInvalidArgument)
        << range.ShortDebugString();
  }
  EXPECT_THAT(store->Missing(), ElementsAre(IdentityRange{10, 10}));
  EXPECT_TRUE(*store->Commit(Range(10, 10)));
}

TEST_F(RepresentationStoreTest, AnEmptyPassIsRefused) {
  EXPECT_EQ(RepresentationStore::Open(fs_, "/pass", Pass(0, 0)).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(RepresentationStoreTest, ConcurrentCommitsAllCountOnce) {
  auto store = Open(0, 800);
  std::vector<std::thread> threads;
  std::vector<int> accepted(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      // Two threads commit each range.
      for (uint64_t i = static_cast<uint64_t>(t % 2) * 10; i < 800; i += 20) {
        accepted[t] += *store->Commit(Range(i, 10)) ? 1 : 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(accepted[0] + accepted[1] + accepted[2] + accepted[3], 80);
  EXPECT_THAT(Open(0, 800)->Missing(), IsEmpty());
}

TEST_F(RepresentationStoreTest, AFullDiskIsReportedAndOpeningAgainGoesOn) {
  FaultInjectingFileSystem faulty(fs_);
  auto store = *RepresentationStore::Open(faulty, "/pass", Pass(0, 20));
  ASSERT_TRUE(store->Commit(Range(0, 10)).ok());
  FaultInjectingFileSystem::Fault fault;
  fault.call = faulty.calls();
  fault.short_write = 0.5;
  faulty.Inject(fault);
  EXPECT_FALSE(store->Commit(Range(10, 10)).ok());
  faulty.Clear();
  EXPECT_FALSE(store->Commit(Range(10, 10)).ok()) << "the file's state is unknown";
  store = *RepresentationStore::Open(faulty, "/pass", Pass(0, 20));
  EXPECT_THAT(store->Missing(), ElementsAre(IdentityRange{10, 10}));
  EXPECT_TRUE(*store->Commit(Range(10, 10)));
}

// At every mutating call: the disk dies there, then the power is cut. What was acknowledged is there
// afterwards.
TEST_F(RepresentationStoreTest, SurvivesACrashAtEveryCall) {
  RepresentationStore::Options options;
  options.segment_bytes = 200;
  for (uint64_t call = 0;; ++call) {
    InMemoryFileSystem disk;
    FaultInjectingFileSystem faulty(disk);
    faulty.Inject({call, FaultInjectingFileSystem::Error::kIo, FaultInjectingFileSystem::Lasting::kForGood,
                   call % 2 == 0 ? 0.5 : 0.0});
    std::vector<uint64_t> acknowledged;
    {
      auto store = OpenRepresentationPass(faulty, "/state/representations", 1, Pass(0, 60));
      if (store.ok()) {
        for (uint64_t i = 0; i < 60; i += 10) {
          if ((*store)->Commit(Range(i, 10)).ok()) acknowledged.push_back(i);
        }
      }
    }
    if (call % 3 != 0) disk.DropUnsynced();
    auto store = OpenRepresentationPass(disk, "/state/representations", 1, Pass(0, 60));
    ASSERT_TRUE(store.ok()) << "call " << call << ": " << store.status();
    const IdentityRanges committed = (*store)->Committed();
    for (uint64_t first : acknowledged) EXPECT_TRUE(committed.Contains({first, 10})) << "call " << call;
    for (const IdentityRange& gap : (*store)->Missing()) {
      ASSERT_TRUE((*store)->Commit(Range(gap.first, gap.count)).ok());
    }
    ASSERT_TRUE((*store)->Freeze().ok());
    if (acknowledged.size() == 6) break;
    ASSERT_LT(call, 200U);
  }
}

TEST(RepresentationPassKeyTest, DependsOnEveryInputButNotOnTheStep) {
  std::set<std::string> keys = {RepresentationPassKey(Pass(0, 10))};
  const auto add = [&keys](const v1::RepresentationPass& pass) {
    const std::string key = RepresentationPassKey(pass);
    EXPECT_EQ(key.size(), 32U);
    return keys.insert(key).second;
  };
  v1::RepresentationPass pass = Pass(0, 10);
  pass.set_model_step(99);
  EXPECT_FALSE(add(pass));
  EXPECT_TRUE(add(Pass(1, 10)));
  EXPECT_TRUE(add(Pass(0, 11)));
  pass.set_seed(1);
  EXPECT_TRUE(add(pass));
  pass.set_samples_per_identity(4);
  EXPECT_TRUE(add(pass));
  pass.set_model_fingerprint("other");
  EXPECT_TRUE(add(pass));
  pass.set_catalog_fingerprint("other");
  EXPECT_TRUE(add(pass));
  pass.set_dimension(4);
  EXPECT_TRUE(add(pass));
}

TEST_F(RepresentationStoreTest, ALaterGenerationTakesThePassOver) {
  ASSERT_TRUE((*OpenRepresentationPass(fs_, "/r", 1, Pass(0, 20)))->Commit(Range(0, 10)).ok());
  auto store = OpenRepresentationPass(fs_, "/r", 5, Pass(0, 20));
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_THAT((*store)->Missing(), ElementsAre(IdentityRange{10, 10}));
  EXPECT_EQ(fs_.List("/r")->size(), 1U);
}

TEST_F(RepresentationStoreTest, OldPassesGoTheLastUsedStay) {
  for (uint64_t n = 1; n <= 3; ++n) ASSERT_TRUE(OpenRepresentationPass(fs_, "/r", n, Pass(0, 20 + n)).ok());
  ASSERT_TRUE(OpenRepresentationPass(fs_, "/r", 4, Pass(0, 21)).ok());  // the first, used again
  ASSERT_TRUE(RemoveOldPasses(fs_, "/r", 2).ok());
  const std::vector<std::string> names = *fs_.List("/r");
  ASSERT_EQ(names.size(), 2U);
  EXPECT_THAT(names[0], HasSubstr(RepresentationPassKey(Pass(0, 23))));
  EXPECT_THAT(names[1], HasSubstr(RepresentationPassKey(Pass(0, 21))));
  EXPECT_TRUE(RemoveOldPasses(fs_, "/nowhere", 2).ok());
}

}  // namespace
}  // namespace doppel
