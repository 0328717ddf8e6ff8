#include "miner/storage/state_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "miner/generation/state_lock.h"
#include "tests/unit/miner/storage/state_fixture.h"

namespace doppel {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Kind = CheckFinding::Kind;

class StateCheckTest : public StateFixture {
 protected:
  CheckReport Check(const CheckOptions& options = {}) {
    absl::StatusOr<CheckReport> report = CheckState(fs_, state_, options);
    EXPECT_TRUE(report.ok()) << report.status();
    return *std::move(report);
  }
};

TEST_F(StateCheckTest, ASoundStateHasNothingToTell) {
  const CheckReport report = Check();
  for (const CheckFinding& finding : report.findings) ADD_FAILURE() << finding.file << ": " << finding.what;
  EXPECT_EQ(report.generations, 3U);
  EXPECT_EQ(report.active, 2U);
  EXPECT_EQ(report.served, 2U);
  EXPECT_FALSE(report.in_use);
  EXPECT_GE(report.files, Files().size());
}

TEST_F(StateCheckTest, AFlippedBitInAnyFileIsNamed) {
  for (const std::string& file : Files()) {
    const std::string good = fs_.ReadFile(state_ + file).value();
    for (size_t at : {size_t{0}, good.size() / 3, good.size() / 2, good.size() - 1}) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ 0x10);
      Write(state_ + file, bad);
      const CheckReport report = Check();
      ASSERT_GE(report.Count(Kind::kDamage) + report.Count(Kind::kUnfinished), 1U) << file << " byte " << at;
      bool named = false;
      for (const CheckFinding& finding : report.findings) {
        named = named || finding.file == state_ + file || absl::StrContains(finding.what, file.substr(1));
        EXPECT_FALSE(finding.remedy.empty());
      }
      // A generation's DONE and manifest vouch for each other: either may be the one.
      EXPECT_TRUE(named || absl::EndsWith(file, "/DONE"))
          << file << " byte " << at << ": " << report.findings[0].file << ": " << report.findings[0].what;
    }
    Write(state_ + file, good);
  }
  EXPECT_THAT(Check().findings, IsEmpty());
}

TEST_F(StateCheckTest, AMissingFileOfAGenerationIsNamedAndTheNewestGoodOneServes) {
  ASSERT_TRUE(fs_.Remove(state_ + "/generations/000002/members.u32").ok());
  const CheckReport report = Check();
  ASSERT_EQ(report.findings.size(), 1U);
  EXPECT_THAT(report.findings[0].file, EndsWith("000002/members.u32"));
  EXPECT_THAT(report.findings[0].remedy, HasSubstr("backup"));
  EXPECT_EQ(report.active, 2U);
  EXPECT_EQ(report.served, 3U);
}

TEST_F(StateCheckTest, UnfinishedRecordsAreToldApartFromDamageAndRepaired) {
  for (const char* name : {"/journal.rec", "/cleaning.rec.copy", "/work_groups/g.rec"}) {
    const std::string good = fs_.ReadFile(state_ + name).value();
    Write(state_ + name, good + std::string("\x20\0\0\0half", 8));
    CheckReport report = Check();
    EXPECT_EQ(report.Count(Kind::kDamage), 0U) << name;
    ASSERT_EQ(report.Count(Kind::kUnfinished), 1U) << name;
    EXPECT_EQ(report.findings[0].file, state_ + name);
    EXPECT_THAT(report.findings[0].what, HasSubstr("record "));
    CheckOptions repair;
    repair.repair = true;
    report = Check(repair);
    EXPECT_EQ(report.Count(Kind::kUnfinished), 0U);
    EXPECT_TRUE(report.findings[0].repaired);
    EXPECT_EQ(fs_.ReadFile(state_ + name).value(), good);
  }
}

TEST_F(StateCheckTest, RepairRenewsTheDamagedCopyOfALog) {
  const std::string good = fs_.ReadFile(state_ + "/journal.rec").value();
  Write(state_ + "/journal.rec", "DPLREC01 garbage");
  CheckReport report = Check();
  EXPECT_EQ(report.Count(Kind::kDamage), 1U);
  EXPECT_EQ(report.active, 2U);
  EXPECT_EQ(fs_.ReadFile(state_ + "/journal.rec").value(), "DPLREC01 garbage");
  CheckOptions repair;
  repair.repair = true;
  report = Check(repair);
  EXPECT_EQ(report.Count(Kind::kDamage), 0U);
  EXPECT_EQ(fs_.ReadFile(state_ + "/journal.rec").value(), good);
}

TEST_F(StateCheckTest, FactsAgainstTheRulesAreNamedByTheirRecord) {
  std::vector<v1::MinerUpdate> updates(1);
  updates[0].mutable_generation_activated()->set_generation(99);
  Record(updates);
  const CheckReport report = Check();
  ASSERT_EQ(report.Count(Kind::kDamage), 1U);
  EXPECT_THAT(report.findings[0].what, HasSubstr("record 10: generation 99 is activated"));
}

TEST_F(StateCheckTest, LeftoversAreNoDamage) {
  ASSERT_TRUE(fs_.MakeDirectories(state_ + "/generations/.tmp-9").ok());
  ASSERT_TRUE(fs_.MakeDirectories(state_ + "/generations/000009").ok());
  ASSERT_TRUE(fs_.MakeDirectories(state_ + "/models/half.tmp").ok());
  Write(state_ + "/journal.rec.damaged", "x");
  Write(state_ + "/README", "x");
  const CheckReport report = Check();
  EXPECT_EQ(report.findings.size(), 5U);
  for (const CheckFinding& finding : report.findings) EXPECT_EQ(finding.kind, Kind::kNote) << finding.file;
}

TEST_F(StateCheckTest, WhatARunningMinerWritesIsNoDamageAndIsNotRepaired) {
  const auto lock = StateLock::Acquire(state_).value();
  Write(state_ + "/work_groups/g.rec", fs_.ReadFile(state_ + "/work_groups/g.rec").value() + "\x09");
  const CheckReport report = Check();
  EXPECT_TRUE(report.in_use);
  EXPECT_EQ(report.Count(Kind::kUnfinished), 0U);
  CheckOptions repair;
  repair.repair = true;
  EXPECT_EQ(CheckState(fs_, state_, repair).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(StateCheckTest, AnotherCatalogIsNamed) {
  CheckOptions options;
  options.catalog_fingerprint = "fedcba9876543210fedcba9876543210";
  const CheckReport report = Check(options);
  ASSERT_EQ(report.Count(Kind::kDamage), 1U);
  EXPECT_THAT(report.findings[0].what, HasSubstr(options.catalog_fingerprint));
}

TEST_F(StateCheckTest, WhatIsNoStateIsNotFound) {
  EXPECT_EQ(CheckState(fs_, dir_.path()).status().code(), absl::StatusCode::kNotFound);
}

TEST(CatalogCheckTest, EveryDamagedTableAndEveryLostSourceIsNamed) {
  const testing::CatalogFixture catalog;
  FileSystem& fs = PosixFileSystem();
  EXPECT_THAT(CheckCatalogFiles(fs, catalog.directory()).findings, IsEmpty());
  for (const char* name : {"identities.tbl", "keys.tbl"}) {
    const std::string path = absl::StrCat(catalog.directory(), "/", name);
    std::string data = fs.ReadFile(path).value();
    data.back() = static_cast<char>(data.back() ^ 1);
    ASSERT_TRUE(WriteFileAtomically(fs, path, data).ok());
  }
  ASSERT_TRUE(fs.RemoveRecursively(catalog.data()).ok());
  const CheckReport report = CheckCatalogFiles(fs, catalog.directory());
  EXPECT_EQ(report.Count(Kind::kDamage), 4U);
  EXPECT_THAT(report.findings[0].file, EndsWith("/identities.tbl"));
  EXPECT_THAT(report.findings[1].file, EndsWith("/keys.tbl"));
  EXPECT_THAT(report.findings[3].what, HasSubstr("not there"));
}

}  // namespace
}  // namespace doppel
