#pragma once

#include <functional>
#include <memory>
#include <ostream>
#include <string>

#include "services/ctl/mining_client.h"

namespace doppel {

// What the command line is run in; main fills it from the process.
struct CommandLineEnvironment {
  std::ostream& out;
  std::ostream& err;
  bool colour = false;
  bool quiet = false;
  bool terminal = false;  // of `out`
  std::string default_server = "127.0.0.1:50051";
  std::function<std::unique_ptr<MiningClient>(const std::string& address, absl::Duration deadline)> connect =
      MakeGrpcMiningClient;
};

// Runs one `doppel` command. Exit status: 0 fine, 1 error, 2 wrong usage, 3 a condition is not met.
int RunCommandLine(int argc, const char* const* argv, const CommandLineEnvironment& environment);

}  // namespace doppel
