#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "services/ctl/console.h"
#include "services/ctl/mining_client.h"

namespace CLI {
class App;
}  // namespace CLI

namespace doppel {

using RemoteRun = std::function<absl::Status(MiningClient&, const Console&)>;
// Adds a command that talks to a miner: name, description, examples, what it does.
using AddRemoteCommand =
    std::function<CLI::App*(const std::string&, const std::string&, const std::string&, RemoteRun)>;

// The commands that steer generations, and that look into them: rollback, retire, pin, unpin, diff, policy,
// subspace, lookalikes, watch, status.
void AddControlCommands(const AddRemoteCommand& add);

}  // namespace doppel
