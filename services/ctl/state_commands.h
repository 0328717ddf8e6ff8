#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "services/ctl/console.h"

namespace CLI {
class App;
}

namespace doppel {

struct CheckCommandOptions {
  std::string state;
  std::string catalog;
  bool repair = false;
};
// DATA_LOSS if anything is damaged, FAILED_PRECONDITION if records are unfinished and nobody repaired them.
absl::Status RunCheck(const CheckCommandOptions& options, const Console& console);

struct BackupCommandOptions {
  std::string state;
  std::string backup;
  bool copy = false;
  bool without_representations = false;
};
absl::Status RunBackup(const BackupCommandOptions& options, const Console& console);
absl::Status RunRestore(const BackupCommandOptions& options, const Console& console);

// Adds `fsck`, `backup` and `restore`, which work on files and need no miner. `add` makes a command and says
// what it does.
void AddStateCommands(const std::function<CLI::App*(const std::string& name, const std::string& description,
                                                    const std::string& examples,
                                                    std::function<absl::Status(const Console&)> run)>& add);

}  // namespace doppel
