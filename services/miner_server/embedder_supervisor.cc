#include "services/miner_server/embedder_supervisor.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/base/log.h"

namespace doppel {
namespace {

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (const std::string& string : strings) pointers.push_back(const_cast<char*>(string.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// A child with nothing on stdin, no signal blocked, and a process group of its own: Ctrl-C reaches it through
// us.
absl::StatusOr<pid_t> Spawn(const std::vector<std::string>& command,
                            const std::vector<std::string>& environment) {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none, defaults;
  sigemptyset(&none);
  sigemptyset(&defaults);
  for (int signal : {SIGTERM, SIGINT, SIGPIPE, SIGHUP}) sigaddset(&defaults, signal);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  pid_t pid = -1;
  const int error = posix_spawn(&pid, command[0].c_str(), &files, &attributes, Pointers(command).data(),
                                Pointers(environment).data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  if (error != 0)
    return absl::UnavailableError(absl::StrCat("cannot start ", command[0], ": ", strerror(error)));
  return pid;
}

std::string DescribeExit(int status) {
  if (WIFSIGNALED(status)) return absl::StrCat("was killed by signal ", WTERMSIG(status));
  return absl::StrCat("ended with exit status ", WEXITSTATUS(status));
}

class EmbedderSupervisorImpl final : public EmbedderSupervisor {
 public:
  explicit EmbedderSupervisorImpl(SupervisorOptions options)
      : options_(std::move(options)), pids_(options_.processes, -1) {
    for (int i = 0; i < options_.processes; ++i) threads_.emplace_back([this, i] { Keep(i); });
  }

  ~EmbedderSupervisorImpl() override {
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
      SignalAll(SIGTERM);
      if (!mutex_.AwaitWithTimeout(absl::Condition(this, &EmbedderSupervisorImpl::NoneRuns),
                                   options_.grace)) {
        SignalAll(SIGKILL);
      }
    }
    for (std::thread& thread : threads_) thread.join();
  }

  std::vector<pid_t> Pids() const override {
    absl::MutexLock lock(&mutex_);
    std::vector<pid_t> running;
    std::copy_if(pids_.begin(), pids_.end(), std::back_inserter(running), [](pid_t pid) { return pid > 0; });
    return running;
  }

  int starts() const override {
    absl::MutexLock lock(&mutex_);
    return starts_;
  }

 private:
  void SignalAll(int signal) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (pid_t pid : pids_) {
      if (pid > 0) kill(-pid, signal);  // its group: whatever it has started as well
    }
  }
  bool NoneRuns() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return std::all_of(pids_.begin(), pids_.end(), [](pid_t pid) { return pid <= 0; });
  }

  // One thread per child: starts it, waits for its end, starts it again.
  void Keep(int slot) {
    absl::Duration backoff = options_.backoff;
    while (true) {
      const absl::Time started = absl::Now();
      const pid_t pid = StartChild(slot);
      if (pid > 0) WaitForChild(slot, pid);
      if (absl::Now() - started > options_.max_backoff) backoff = options_.backoff;
      absl::MutexLock lock(&mutex_);
      if (mutex_.AwaitWithTimeout(absl::Condition(&stopping_), backoff)) return;
      backoff = std::min(2 * backoff, options_.max_backoff);
    }
  }

  pid_t StartChild(int slot) {
    absl::MutexLock lock(&mutex_);
    if (stopping_) return -1;
    absl::StatusOr<pid_t> pid = Spawn(options_.command, options_.environment);
    if (!pid.ok()) {
      DOPPEL_LOG(kError, pid.status().message());
      return -1;
    }
    ++starts_;
    pids_[slot] = *pid;
    DOPPEL_LOG(kInfo, "embedder ", slot, " started, process ", *pid);
    return *pid;
  }

  void WaitForChild(int slot, pid_t pid) {
    // Not reaped yet, so that nobody else can get the number while another thread signals it.
    siginfo_t info;
    while (waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT) != 0 && errno == EINTR) {
    }
    absl::MutexLock lock(&mutex_);
    int status = 0;
    waitpid(pid, &status, 0);
    pids_[slot] = -1;
    if (!stopping_)
      DOPPEL_LOG(kWarning, "embedder ", slot, " ", DescribeExit(status), ": it will be started again");
  }

  const SupervisorOptions options_;
  mutable absl::Mutex mutex_;
  std::vector<pid_t> pids_ ABSL_GUARDED_BY(mutex_);
  int starts_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<EmbedderSupervisor>> EmbedderSupervisor::Start(SupervisorOptions options) {
  if (options.command.empty() || access(options.command[0].c_str(), X_OK) != 0) {
    return absl::NotFoundError(
        absl::StrCat("embedder binary ", options.command.empty() ? "" : options.command[0],
                     " cannot be executed: build or install doppel-embedder beside doppel-miner, "
                     "name it with --embedder-binary, or run none with --embedders 0"));
  }
  return std::unique_ptr<EmbedderSupervisor>(std::make_unique<EmbedderSupervisorImpl>(std::move(options)));
}

std::vector<std::string> WithPassiveWaiting(std::vector<std::string> environment) {
  for (const std::string& entry : environment) {
    if (absl::StartsWith(entry, "OMP_WAIT_POLICY=")) return environment;
  }
  environment.push_back("OMP_WAIT_POLICY=passive");
  return environment;
}

}  // namespace doppel
