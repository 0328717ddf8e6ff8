#include "services/miner_server/embedder_supervisor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <functional>
#include <thread>

#include "absl/time/clock.h"
#include "tests/support/catalog_fixture.h"

namespace doppel {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

bool Eventually(const std::function<bool()>& condition) {
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

SupervisorOptions Shell(const std::string& script) {
  SupervisorOptions options;
  options.command = {"/bin/sh", "-c", script};
  options.environment = {"PATH=/usr/bin:/bin"};
  options.backoff = absl::Milliseconds(5);
  options.max_backoff = absl::Milliseconds(20);
  return options;
}

TEST(EmbedderSupervisorTest, MissingBinaryIsNamed) {
  SupervisorOptions options;
  options.command = {"/nonexistent/doppel-embedder"};
  const auto supervisor = EmbedderSupervisor::Start(options);
  EXPECT_EQ(supervisor.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(supervisor.status().message()), HasSubstr("/nonexistent/doppel-embedder"));
}

TEST(EmbedderSupervisorTest, RunsAsManyAsAskedAndStopsThem) {
  SupervisorOptions options = Shell("exec sleep 1000");
  options.processes = 3;
  auto supervisor = EmbedderSupervisor::Start(options).value();
  ASSERT_TRUE(Eventually([&] { return supervisor->Pids().size() == 3; }));
  const std::vector<pid_t> pids = supervisor->Pids();
  supervisor.reset();
  for (pid_t pid : pids) EXPECT_EQ(kill(pid, 0), -1);
}

TEST(EmbedderSupervisorTest, StartsAgainWhatWasKilled) {
  auto supervisor = EmbedderSupervisor::Start(Shell("exec sleep 1000")).value();
  ASSERT_TRUE(Eventually([&] { return supervisor->Pids().size() == 1; }));
  const pid_t first = supervisor->Pids()[0];
  kill(first, SIGKILL);
  EXPECT_TRUE(Eventually([&] {
    const std::vector<pid_t> pids = supervisor->Pids();
    return pids.size() == 1 && pids[0] != first;
  }));
  EXPECT_EQ(supervisor->starts(), 2);
}

TEST(EmbedderSupervisorTest, KeepsTryingWhatDiesAtOnce) {
  auto supervisor = EmbedderSupervisor::Start(Shell("exit 3")).value();
  EXPECT_TRUE(Eventually([&] { return supervisor->starts() >= 3; }));
}

TEST(EmbedderSupervisorTest, KillsWhatDoesNotHearSigterm) {
  testing::TempDir dir;
  SupervisorOptions options = Shell("trap '' TERM; : > " + dir / "ready" + "; while :; do sleep 1000; done");
  options.grace = absl::Milliseconds(50);
  auto supervisor = EmbedderSupervisor::Start(options).value();
  ASSERT_TRUE(Eventually([&] { return access((dir / "ready").c_str(), F_OK) == 0; }));
  const pid_t pid = supervisor->Pids().at(0);
  supervisor.reset();
  EXPECT_EQ(kill(pid, 0), -1);
}

TEST(EmbedderSupervisorTest, ChildGetsTheEnvironmentAndNoBlockedSignals) {
  testing::TempDir dir;
  sigset_t signals, before;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, &before);
  SupervisorOptions options =
      Shell("grep SigBlk /proc/self/status > " + dir / "out" + "; echo $OMP_WAIT_POLICY >> " + dir / "out" +
            "; : > " + dir / "ready" + "; exec sleep 1000");
  options.environment = WithPassiveWaiting(options.environment);
  auto supervisor = EmbedderSupervisor::Start(options).value();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ASSERT_TRUE(Eventually([&] { return access((dir / "ready").c_str(), F_OK) == 0; }));
  EXPECT_EQ(testing::ReadTestFile(dir / "out"), "SigBlk:\t0000000000000000\npassive\n");
}

TEST(WithPassiveWaitingTest, AddsItOnceAndRespectsAnother) {
  EXPECT_THAT(WithPassiveWaiting({"A=1"}), Contains("OMP_WAIT_POLICY=passive"));
  EXPECT_EQ(WithPassiveWaiting({"OMP_WAIT_POLICY=active"}),
            std::vector<std::string>{"OMP_WAIT_POLICY=active"});
}

}  // namespace
}  // namespace doppel
