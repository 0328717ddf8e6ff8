#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "services/ctl/console.h"

namespace CLI {
class App;
}

namespace doppel {

// Adds `clean` with its subcommands. `choose` is called with the name of the command that was given and
// what it does; `output` takes -o.
void AddCleanCommands(
    CLI::App& app, const std::string& default_server, OutputFormat* output,
    std::function<void(const std::string&, std::function<absl::Status(const Console&)>)> choose);

}  // namespace doppel
