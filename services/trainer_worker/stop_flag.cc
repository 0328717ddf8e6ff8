#include "services/trainer_worker/stop_flag.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace doppel {
namespace {

// A handler reaches nothing but globals. Blocking the signals and waiting for them in a thread would not do:
// libraries start threads before main, and those would take the signal.
int signal_pipe[2] = {-1, -1};

void OnSignal(int) {
  const int saved = errno;
  const char byte = 's';
  [[maybe_unused]] const ssize_t written = write(signal_pipe[1], &byte, 1);
  errno = saved;
}

void Handle(void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
}

}  // namespace

void StopFlag::Request() {
  absl::MutexLock lock(&mutex_);
  requested_ = true;
  if (wake_) std::exchange(wake_, nullptr)();
}

bool StopFlag::requested() const {
  absl::MutexLock lock(&mutex_);
  return requested_;
}

void StopFlag::SetWake(std::function<void()> wake) {
  absl::MutexLock lock(&mutex_);
  wake_ = std::move(wake);
  if (requested_ && wake_) std::exchange(wake_, nullptr)();
}

SignalWatcher::SignalWatcher(StopFlag& flag) {
  if (pipe2(signal_pipe, O_CLOEXEC) != 0) return;
  Handle(OnSignal);
  thread_ = std::thread([&flag] {
    char byte = 0;
    ssize_t got;
    do {
      got = read(signal_pipe[0], &byte, 1);
    } while (got < 0 && errno == EINTR);
    if (got != 1 || byte != 's') return;
    Handle(SIG_DFL);
    flag.Request();
  });
}

SignalWatcher::~SignalWatcher() {
  if (!thread_.joinable()) return;
  Handle(SIG_DFL);
  const char byte = 'q';
  [[maybe_unused]] const ssize_t written = write(signal_pipe[1], &byte, 1);
  thread_.join();
  for (int& fd : signal_pipe) close(std::exchange(fd, -1));
}

}  // namespace doppel
