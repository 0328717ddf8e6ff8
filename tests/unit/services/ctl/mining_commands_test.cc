#include "services/ctl/mining_commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "common/image/image.h"
#include "common/io/file_system.h"
#include "tests/unit/services/ctl/fake_miner.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class MiningCommandsTest : public ::testing::Test {
 protected:
  MiningCommandsTest() { options_.poll = absl::Milliseconds(1); }
  Console Show(OutputFormat format = OutputFormat::kTable) { return Console{out_, err_, format}; }

  FakeMiner miner_;
  ReclusterOptions options_;
  std::ostringstream out_, err_;
};

TEST_F(MiningCommandsTest, ReclusterWaitsAndPrintsTheGeneration) {
  miner_.script = {[] { return FakeMiner::Done(v1::Operation::STATE_RUNNING); },
                   [] { return FakeMiner::Done(v1::Operation::STATE_SUCCEEDED); }};
  options_.request.set_subspaces(25);
  ASSERT_TRUE(RunRecluster(options_, miner_, Show()).ok());
  EXPECT_EQ(miner_.requests.at(0).subspaces(), 25);
  EXPECT_EQ(miner_.waits, 2);
  EXPECT_THAT(out_.str(), HasSubstr("generation  2 (active)"));
}

TEST_F(MiningCommandsTest, FailedJobSaysWhy) {
  miner_.script = {[] { return FakeMiner::Done(v1::Operation::STATE_FAILED); }};
  const absl::Status status = RunRecluster(options_, miner_, Show());
  EXPECT_EQ(ExitCode(status), 1);
  EXPECT_THAT(std::string(status.message()), HasSubstr("disk full"));
  EXPECT_EQ(out_.str(), "");
}

TEST_F(MiningCommandsTest, CancelledJobIsAConditionNotMet) {
  miner_.script = {[] { return FakeMiner::Done(v1::Operation::STATE_CANCELLED); }};
  EXPECT_EQ(ExitCode(RunRecluster(options_, miner_, Show())), 3);
}

TEST_F(MiningCommandsTest, InterruptLeavesTheJobAndSaysHowToCancelIt) {
  miner_.script = {[] { return FakeMiner::Done(v1::Operation::STATE_RUNNING); }};
  int looks = 0;
  options_.interrupted = [&looks] { return ++looks == 3; };
  const absl::Status status = RunRecluster(options_, miner_, Show());
  EXPECT_EQ(ExitCode(status), 3);
  EXPECT_THAT(std::string(status.message()), HasSubstr("doppel cancel op-1 --server miner:1"));
  EXPECT_EQ(miner_.cancels, 0);
}

TEST_F(MiningCommandsTest, WaitingSurvivesARestartOfTheMiner) {
  miner_.script = {[] { return absl::UnavailableError("away"); },
                   [] { return absl::UnavailableError("away"); },
                   [] { return FakeMiner::Done(v1::Operation::STATE_SUCCEEDED); }};
  EXPECT_TRUE(RunRecluster(options_, miner_, Show()).ok());
}

TEST_F(MiningCommandsTest, PatienceWithAMinerThatIsAwayEnds) {
  miner_.script = {[] { return absl::UnavailableError("away"); }};
  options_.patience = absl::Milliseconds(5);
  const absl::Status status = RunRecluster(options_, miner_, Show());
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("op-1"));
}

TEST_F(MiningCommandsTest, NoWaitPrintsTheOperation) {
  options_.wait = false;
  ASSERT_TRUE(RunRecluster(options_, miner_, Show(OutputFormat::kJson)).ok());
  EXPECT_EQ(nlohmann::json::parse(out_.str())["id"], "op-1");
  EXPECT_EQ(miner_.waits, 0);
}

TEST_F(MiningCommandsTest, DryRunPrintsWhatTheMinerFound) {
  miner_.script = {[] {
    v1::Operation operation = FakeMiner::Done(v1::Operation::STATE_SUCCEEDED);
    operation.clear_generation();
    operation.mutable_statistics()->set_generation(7);
    operation.mutable_statistics()->set_nmi(0.5);
    return operation;
  }};
  options_.dry_run = true;
  ASSERT_TRUE(RunRecluster(options_, miner_, Show(OutputFormat::kJson)).ok());
  EXPECT_TRUE(miner_.requests.at(0).dry_run());
  EXPECT_EQ(nlohmann::json::parse(out_.str())["nmi"], 0.5);
}

TEST_F(MiningCommandsTest, WatchingAJobPrintsItsPhases) {
  miner_.script = {[] {
                     v1::Operation operation = FakeMiner::Done(v1::Operation::STATE_QUEUED);
                     return operation;
                   },
                   [] { return FakeMiner::Done(v1::Operation::STATE_RUNNING); },
                   [] { return FakeMiner::Done(v1::Operation::STATE_SUCCEEDED); }};
  options_.watch = true;
  ASSERT_TRUE(RunRecluster(options_, miner_, Show()).ok());
  EXPECT_THAT(err_.str(), HasSubstr("embed"));
  EXPECT_THAT(err_.str(), HasSubstr("queued"));
  EXPECT_THAT(err_.str(), HasSubstr("cluster"));
}

TEST_F(MiningCommandsTest, ShowRequestPrintsItAndAsksNobody) {
  options_.show_request = true;
  options_.request.set_model_path("/m");
  ASSERT_TRUE(RunRecluster(options_, miner_, Show()).ok());
  EXPECT_EQ(nlohmann::json::parse(out_.str())["model_path"], "/m");
  EXPECT_TRUE(miner_.requests.empty());
}

TEST_F(MiningCommandsTest, GenerationsAsTable) {
  ASSERT_TRUE(RunGenerations(miner_, Show()).ok());
  EXPECT_THAT(out_.str(), HasSubstr("101 740"));
  EXPECT_THAT(out_.str(), HasSubstr("0123456789ab "));
  EXPECT_THAT(out_.str(), Not(HasSubstr("0123456789abc")));
  EXPECT_THAT(out_.str(), Not(HasSubstr("OBJECTIVE")));
}

TEST_F(MiningCommandsTest, GenerationsWide) {
  ASSERT_TRUE(RunGenerations(miner_, Show(OutputFormat::kWide)).ok());
  EXPECT_THAT(out_.str(), HasSubstr("OBJECTIVE"));
  EXPECT_THAT(out_.str(), HasSubstr("0123456789abcdef0123456789abcdef"));
}

TEST_F(MiningCommandsTest, GenerationsAsJson) {
  ASSERT_TRUE(RunGenerations(miner_, Show(OutputFormat::kJson)).ok());
  const auto json = nlohmann::json::parse(out_.str());
  ASSERT_EQ(json["generations"].size(), 2);
  EXPECT_EQ(json["generations"][1]["active"], true);
}

TEST_F(MiningCommandsTest, NoGenerationsSaysHowToMakeOne) {
  miner_.empty = true;
  ASSERT_TRUE(RunGenerations(miner_, Show()).ok());
  EXPECT_THAT(out_.str(), HasSubstr("doppel recluster"));
}

TEST_F(MiningCommandsTest, GenerationListsSomeSubspacesAndWideAll) {
  ASSERT_TRUE(RunGeneration(0, miner_, Show()).ok());
  EXPECT_THAT(out_.str(), HasSubstr("and 5 more"));
  EXPECT_THAT(out_.str(), HasSubstr("20000"));  // the objective after the last iteration
  out_.str("");
  ASSERT_TRUE(RunGeneration(1, miner_, Show(OutputFormat::kWide)).ok());
  EXPECT_THAT(out_.str(), Not(HasSubstr("more:")));
  EXPECT_EQ(RunGeneration(7, miner_, Show()).code(), absl::StatusCode::kNotFound);
}

TEST_F(MiningCommandsTest, ActivateAndItsDryRun) {
  ASSERT_TRUE(RunActivate(1, true, miner_, Show()).ok());
  EXPECT_THAT(out_.str(), HasSubstr("would become active"));
  EXPECT_EQ(miner_.activations, 0);
  ASSERT_TRUE(RunActivate(2, true, miner_, Show()).ok());
  EXPECT_THAT(out_.str(), HasSubstr("nothing would change"));
  EXPECT_EQ(RunActivate(9, true, miner_, Show()).code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(RunActivate(1, false, miner_, Show()).ok());
  EXPECT_EQ(miner_.activations, 1);
}

TEST_F(MiningCommandsTest, OperationsShowStateAndError) {
  ASSERT_TRUE(RunOperations(miner_, Show()).ok());
  EXPECT_THAT(out_.str(), HasSubstr("failed"));
  EXPECT_THAT(out_.str(), HasSubstr("no model"));
}

TEST_F(MiningCommandsTest, CancelAndItsDryRun) {
  ASSERT_TRUE(RunCancel("op-1", true, miner_, Show()).ok());
  EXPECT_EQ(miner_.cancels, 0);
  EXPECT_THAT(out_.str(), HasSubstr("would be cancelled"));
  ASSERT_TRUE(RunCancel("op-1", false, miner_, Show()).ok());
  EXPECT_EQ(miner_.cancels, 1);
  EXPECT_THAT(out_.str(), HasSubstr("is cancelled"));
}

TEST_F(MiningCommandsTest, StatusShowsStreams) {
  ASSERT_TRUE(RunStatus(miner_, Show()).ok());
  EXPECT_THAT(out_.str(), HasSubstr("miner:1 version 9.9"));
  EXPECT_THAT(out_.str(), HasSubstr("trainer-a"));
}

TEST_F(MiningCommandsTest, RollbackAndItsDryRun) {
  ASSERT_TRUE(RunRollback(true, miner_, Show()).ok());
  EXPECT_THAT(out_.str(), HasSubstr("generation 1 would become active"));
  EXPECT_EQ(miner_.rollbacks, 0);
  ASSERT_TRUE(RunRollback(false, miner_, Show()).ok());
  EXPECT_EQ(miner_.rollbacks, 1);
}

TEST_F(MiningCommandsTest, RetireAndItsDryRun) {
  ASSERT_TRUE(RunRetire(1, true, miner_, Show()).ok());
  EXPECT_EQ(miner_.retired, 0);
  ASSERT_TRUE(RunRetire(1, false, miner_, Show()).ok());
  EXPECT_EQ(miner_.retired, 1);
  EXPECT_EQ(ExitCode(RunRetire(2, false, miner_, Show())), 3);
}

TEST_F(MiningCommandsTest, PinAndUnpin) {
  ASSERT_TRUE(RunPin(1, true, false, miner_, Show()).ok());
  EXPECT_THAT(out_.str(), HasSubstr("generation 1 is pinned"));
  out_.str("");
  ASSERT_TRUE(RunPin(1, false, true, miner_, Show()).ok());
  EXPECT_THAT(out_.str(), HasSubstr("nothing would change"));
}

TEST_F(MiningCommandsTest, DiffShowsSharesAndSomeSubspaces) {
  ASSERT_TRUE(RunDiff(1, 2, 0, miner_, Show()).ok());
  EXPECT_THAT(out_.str(), HasSubstr("12.50 %"));
  EXPECT_THAT(out_.str(), HasSubstr("0.7500"));
  EXPECT_THAT(out_.str(), HasSubstr("and 5 more"));
  EXPECT_THAT(out_.str(), HasSubstr("U+672A"));
  out_.str("");
  ASSERT_TRUE(RunDiff(1, 2, 0, miner_, Show(OutputFormat::kJson)).ok());
  EXPECT_EQ(nlohmann::json::parse(out_.str())["subspaces"].size(), 25U);
}

TEST_F(MiningCommandsTest, PolicyIsShownAndChangedInPart) {
  miner_.policy.set_every_batches(100);
  ASSERT_TRUE(RunShowPolicy(miner_, Show()).ok());
  EXPECT_THAT(out_.str(), HasSubstr("no condition holds"));
  EXPECT_THAT(out_.str(), HasSubstr("not reported"));
  const auto change = [](v1::ReclusterPolicySpec& policy) { policy.set_max_staleness_steps(500); };
  ASSERT_TRUE(RunSetPolicy(change, true, miner_, Show()).ok());
  EXPECT_EQ(miner_.policy.max_staleness_steps(), 0U);
  ASSERT_TRUE(RunSetPolicy(change, false, miner_, Show()).ok());
  EXPECT_EQ(miner_.policy.max_staleness_steps(), 500U);
  EXPECT_EQ(miner_.policy.every_batches(), 100U);
}

TEST_F(MiningCommandsTest, SubspaceShowsMembersAndNeighbours) {
  ASSERT_TRUE(RunSubspace(0, 17, 0, miner_, Show()).ok());
  EXPECT_THAT(out_.str(), HasSubstr("17 of generation 2"));
  EXPECT_THAT(out_.str(), HasSubstr("3 999 more"));
  EXPECT_EQ(RunSubspace(0, 25, 0, miner_, Show()).code(), absl::StatusCode::kNotFound);
}

TEST_F(MiningCommandsTest, LookalikesWritesASheetOfTheirPictures) {
  Image grey{8, 8, 1, std::vector<uint8_t>(64, 200)};
  miner_.picture = *EncodePng(grey);
  LookalikesOptions options;
  options.identity = "U+672A";
  options.sheet = ::testing::TempDir() + "/lookalikes-sheet.png";
  ASSERT_TRUE(RunLookalikes(options, miner_, Show()).ok());
  EXPECT_THAT(out_.str(), HasSubstr("0.8750"));
  const auto sheet = DecodeImage(*PosixFileSystem().ReadFile(options.sheet), 3);
  ASSERT_TRUE(sheet.ok()) << sheet.status();
  EXPECT_GE(sheet->height, 96);
  EXPECT_TRUE(PosixFileSystem().Remove(options.sheet).ok());
}

TEST_F(MiningCommandsTest, LookalikesAsJsonWritesNoFileUnasked) {
  LookalikesOptions options;
  options.identity = "U+672A";
  ASSERT_TRUE(RunLookalikes(options, miner_, Show(OutputFormat::kJson)).ok());
  EXPECT_FALSE(miner_.pictures_wanted);
  EXPECT_EQ(nlohmann::json::parse(out_.str())["lookalikes"][0]["name"], "U+672B");
}

TEST_F(MiningCommandsTest, ADamagedPictureIsNamed) {
  miner_.picture = "no image";
  LookalikesOptions options;
  options.identity = "U+672A";
  options.sheet = ::testing::TempDir() + "/never.png";
  EXPECT_THAT(std::string(RunLookalikes(options, miner_, Show()).message()), HasSubstr("U+672A"));
  EXPECT_FALSE(PosixFileSystem().Exists(options.sheet));
}

TEST_F(MiningCommandsTest, WatchPrintsALinePerEvent) {
  ASSERT_TRUE(RunWatch(0, miner_, Show()).ok());
  EXPECT_THAT(out_.str(), HasSubstr("generation 7 retired\n"));
  EXPECT_THAT(out_.str(), HasSubstr("op-1 succeeded: generation 2\n"));
}

TEST_F(MiningCommandsTest, WatchingTheStatusSaysOnlyWhatChanged) {
  WatchStatusOptions options;
  options.interval = absl::Milliseconds(1);
  options.looks = 3;
  ASSERT_TRUE(RunWatchStatus(options, miner_, Show()).ok());
  const std::string text = out_.str();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
}

TEST_F(MiningCommandsTest, WatchingTheStatusRedrawsATerminal) {
  WatchStatusOptions options;
  options.interval = absl::Milliseconds(1);
  options.looks = 2;
  Console console = Show();
  console.terminal = true;
  ASSERT_TRUE(RunWatchStatus(options, miner_, console).ok());
  EXPECT_THAT(out_.str(), HasSubstr("\x1b[H\x1b[2J"));
  EXPECT_THAT(out_.str(), HasSubstr("trainer-a"));
}

}  // namespace
}  // namespace doppel
