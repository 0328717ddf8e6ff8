#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace doppel {

struct SupervisorOptions {
  std::vector<std::string> command;      // [0] is the path of the binary
  std::vector<std::string> environment;  // of the children, whole: "NAME=value"
  int processes = 1;
  // Before a child that died is started again; doubles up to `max_backoff` while children live shorter than
  // that.
  absl::Duration backoff = absl::Seconds(1);
  absl::Duration max_backoff = absl::Minutes(1);
  // Between SIGTERM and SIGKILL.
  absl::Duration grace = absl::Seconds(5);
};

// Keeps child processes alive. The destructor stops them and waits. Thread-safe.
class EmbedderSupervisor {
 public:
  // NOT_FOUND if the binary cannot be executed.
  static absl::StatusOr<std::unique_ptr<EmbedderSupervisor>> Start(SupervisorOptions options);
  virtual ~EmbedderSupervisor() = default;
  // Of the children that run now.
  virtual std::vector<pid_t> Pids() const = 0;
  // Starts since the beginning, restarts included.
  virtual int starts() const = 0;
};

// `environment` with OMP_WAIT_POLICY=passive, unless it says something else already.
std::vector<std::string> WithPassiveWaiting(std::vector<std::string> environment);

}  // namespace doppel
