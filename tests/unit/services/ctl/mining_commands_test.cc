#include "services/ctl/mining_commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

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

TEST_F(MiningCommandsTest, DryRunPrintsTheRequestAndAsksNobody) {
  options_.dry_run = true;
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

}  // namespace
}  // namespace doppel
