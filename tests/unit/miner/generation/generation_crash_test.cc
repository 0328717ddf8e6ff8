#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

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

  // Two generations, then back to the first.
  Acknowledged Live(FileSystem& fs, const std::string& state) {
    Acknowledged told;
    auto opened = Open(fs, state);
    if (!opened.ok()) return told;
    GenerationManager& manager = **opened;
    for (int i = 0; i < 2; ++i) {
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
    if (!manager.Activate(1).ok()) return told;
    told.active = 1;
    told.complete = true;
    return told;
  }

  void CheckRecovery(const Acknowledged& told, const std::string& state) {
    auto opened = Open(PosixFileSystem(), state);
    ASSERT_TRUE(opened.ok()) << opened.status();
    GenerationManager& manager = **opened;
    // A fact that was on its way may have reached the disk; but nothing that was acknowledged is lost.
    const uint64_t active = manager.ActiveGeneration() == nullptr ? 0 : manager.ActiveGeneration()->number();
    if (told.active) {
      EXPECT_TRUE(active == *told.active || active == *told.active + 1 || (active == 1 && *told.active == 2))
          << active;
    }
    for (uint64_t number : told.generations) {
      EXPECT_TRUE(manager.GetGeneration(number).ok()) << manager.GetGeneration(number).status();
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
      CheckGeneration(manager, ended->generation());
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
