#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <set>

#include "absl/strings/str_format.h"
#include "common/io/fault_file_system.h"
#include "miner/generation/generation_manager.h"
#include "tests/support/fake_catalog.h"
#include "tests/unit/miner/generation/mining_fixture.h"

namespace doppel {
namespace {

constexpr int kCrashDimension = 4;
constexpr int kCrashGroups = 3;

// What callers were told before the miner died.
struct Acknowledged {
  std::vector<std::string> operations;
  std::vector<v1::CommitRangeRequest> ranges;
  std::vector<uint64_t> generations;
  std::optional<uint64_t> active;
  // What the call that was not answered would have made active, and what it would have retired.
  uint64_t next = 0;
  uint64_t retiring = 0;
  std::optional<uint64_t> pinned;
  bool policy = false;
  bool complete = false;
};

class GenerationCrashTest : public testing::Test {
 protected:
  GenerationCrashTest() { WriteModel(model_, "weights", kCrashDimension); }

  absl::StatusOr<std::unique_ptr<GenerationManager>> Open(FileSystem& fs, const std::string& state) {
    GenerationManager::Options options;
    options.catalog = catalog_;
    options.state_directory = state;
    options.fs = &fs;
    options.clock = &clock_;
    options.clusterer = std::make_unique<AxisClusterer>();
    options.lease_identities = 20;
    return GenerationManager::Open(std::move(options));
  }
  v1::ReclusterRequest Request() const {
    v1::ReclusterRequest request;
    request.set_model_path(model_);
    request.set_subspaces(kCrashGroups);
    request.set_iterations(2);
    request.set_min_size(1);
    return request;
  }

  // Two generations, back to the first, a guard list, back again, a pin, a policy, and the second one goes.
  Acknowledged Live(FileSystem& fs, const std::string& state) {
    Acknowledged told;
    auto opened = Open(fs, state);
    if (!opened.ok()) return told;
    GenerationManager& manager = **opened;
    for (int i = 0; i < 2; ++i) {
      told.next = static_cast<uint64_t>(i) + 1;
      const auto started = manager.Recluster(Request());
      if (!started.ok()) return told;
      told.operations.push_back(started->id());
      const auto ranges = EmbedUntilOver(manager, started->id(), kCrashDimension, kCrashGroups);
      told.ranges.insert(told.ranges.end(), ranges.begin(), ranges.end());
      const auto ended = manager.WaitOperation(started->id(), absl::Seconds(60));
      if (!ended.ok() || ended->state() != v1::Operation::STATE_SUCCEEDED) return told;
      told.generations.push_back(ended->generation());
      told.active = ended->generation();
    }
    told.next = 1;
    if (!manager.Activate(1).ok()) return told;
    told.active = 1;
    told.complete = Steer(manager, told);
    return told;
  }

  // False: a call was refused.
  static bool Steer(GenerationManager& manager, Acknowledged& told) {
    told.next = 3;
    if (!manager.PublishGuardList(0, *GuardList::Make({{1, 2}}, {5}), "note").ok()) return false;
    told.generations.push_back(3);
    told.active = 3;
    told.next = 1;
    if (!manager.Rollback(false).ok()) return false;
    told.active = 1;
    if (!manager.Pin(1, true).ok()) return false;
    told.pinned = 1;
    v1::ReclusterPolicySpec policy;
    policy.set_every_batches(77);
    if (!manager.SetPolicy(policy).ok()) return false;
    told.policy = true;
    told.retiring = 2;
    told.generations.erase(std::find(told.generations.begin(), told.generations.end(), 2));
    return manager.Retire(2, false).ok();
  }

  void CheckRecovery(const Acknowledged& told, const std::string& state) {
    auto opened = Open(PosixFileSystem(), state);
    ASSERT_TRUE(opened.ok()) << opened.status();
    GenerationManager& manager = **opened;
    // A fact that was on its way may have reached the disk; but nothing that was acknowledged is lost.
    const uint64_t active = manager.ActiveGeneration() == nullptr ? 0 : manager.ActiveGeneration()->number();
    if (told.active) {
      EXPECT_TRUE(active == *told.active || active == told.next) << active;
    }
    for (uint64_t number : told.generations) {
      EXPECT_TRUE(manager.GetGeneration(number).ok()) << manager.GetGeneration(number).status();
    }
    if (told.pinned) EXPECT_TRUE(manager.DescribeGeneration(*told.pinned)->pinned());
    if (told.policy) EXPECT_EQ(manager.GetPolicy().policy().every_batches(), 77U);
    if (const auto derived = manager.GetGeneration(3); derived.ok()) {
      EXPECT_TRUE((*derived)->guard_list().Guarded(1, 2));
      CheckGeneration(manager, 3);
    }
    for (const std::string& id : told.operations) EXPECT_TRUE(manager.GetOperation(id).ok());
    for (const v1::CommitRangeRequest& range : told.ranges) {
      const auto again = manager.CommitRange(range);
      // NOT_FOUND: its operation failed, which a caller sees.
      EXPECT_FALSE(again.ok() && again->accepted());
    }
    for (const v1::Operation& operation : manager.ListOperations()) {
      EmbedUntilOver(manager, operation.id(), kCrashDimension, kCrashGroups);
      const auto ended = manager.WaitOperation(operation.id(), absl::Seconds(60));
      ASSERT_TRUE(ended.ok());
      // A disk that fails for a moment may fail an operation; it never leaves one hanging.
      if (ended->state() == v1::Operation::STATE_FAILED) continue;
      ASSERT_EQ(ended->state(), v1::Operation::STATE_SUCCEEDED) << ended->error();
      const bool gone = absl::IsNotFound(manager.GetGeneration(ended->generation()).status());
      if (gone && ended->generation() == told.retiring) continue;
      CheckGeneration(manager, ended->generation());
    }
    CheckDisk(manager, state);
  }

  // Nothing lies about that is not published.
  static void CheckDisk(const GenerationManager& manager, const std::string& state) {
    std::set<std::string> published;
    for (const v1::GenerationInfo& info : manager.ListGenerations()) {
      published.insert(absl::StrFormat("%06d", info.generation()));
    }
    const auto names = PosixFileSystem().List(state + "/generations");
    ASSERT_TRUE(names.ok());
    for (const std::string& name : *names) {
      // A generation whose publication was cut off before the journal heard of it keeps its number.
      if (name == "000003") continue;
      EXPECT_TRUE(published.count(name) > 0) << name;
    }
  }

  void CheckGeneration(GenerationManager& manager, uint64_t number) {
    const auto generation = manager.GetGeneration(number);
    ASSERT_TRUE(generation.ok()) << generation.status();
    for (uint64_t i = 0; i < catalog_->num_identities(); ++i)
      ASSERT_EQ((*generation)->SubspaceOf(i), i % kCrashGroups);
  }

  TemporaryDirectory directory_;
  const std::string model_ = directory_.path() + "/model";
  ManualClock clock_{absl::FromUnixSeconds(1700000000)};
  std::shared_ptr<const Catalog> catalog_ = MakeFakeCatalog(60, 2, 3, 1);
};

TEST_F(GenerationCrashTest, DyingAtAnyCallLosesNothingThatWasAcknowledged) {
  for (uint64_t call = 0;; ++call) {
    SCOPED_TRACE(call);
    const std::string state = absl::StrCat(directory_.path(), "/state-", call);
    Acknowledged told;
    {
      FaultInjectingFileSystem faulty(PosixFileSystem());
      faulty.Inject({call, FaultInjectingFileSystem::Error::kIo, FaultInjectingFileSystem::Lasting::kForGood,
                     call % 2 == 0 ? 0.5 : 0.0});
      told = Live(faulty, state);
    }
    CheckRecovery(told, state);
    std::filesystem::remove_all(state);
    if (HasFatalFailure() || told.complete) break;
    ASSERT_LT(call, 400U);
  }
}

TEST_F(GenerationCrashTest, AFaultOfOneCallIsReportedAndLosesNothing) {
  for (uint64_t call = 0;; ++call) {
    SCOPED_TRACE(call);
    const std::string state = absl::StrCat(directory_.path(), "/state-", call);
    Acknowledged told;
    bool over = false;
    {
      FaultInjectingFileSystem faulty(PosixFileSystem());
      faulty.Inject(
          {call, FaultInjectingFileSystem::Error::kNoSpace, FaultInjectingFileSystem::Lasting::kOnce, 0.5});
      told = Live(faulty, state);
      over = faulty.calls() <= call;
    }
    CheckRecovery(told, state);
    std::filesystem::remove_all(state);
    if (HasFatalFailure() || over) break;
    ASSERT_LT(call, 400U);
  }
}

}  // namespace
}  // namespace doppel
