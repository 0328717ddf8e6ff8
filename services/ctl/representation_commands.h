#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "services/ctl/console.h"
#include "services/ctl/mining_client.h"

namespace CLI {
class App;
}

namespace doppel {

// Adds a command that talks to a miner to the command line.
using AddRemoteCommand = std::function<CLI::App*(
    const std::string& name, const std::string& description, const std::string& examples,
    std::function<absl::Status(MiningClient&, const Console&)> run)>;
// models, publish-model, representations, hardness, steering.
void AddRepresentationCommands(const AddRemoteCommand& add);

absl::Status RunModels(const std::string& address, const Console& console);
absl::Status RunPublishModel(const std::string& directory, const std::string& address,
                             const Console& console);
// `identities`: names or numbers to show, too.
absl::Status RunRepresentations(const std::string& split, const std::vector<std::string>& identities,
                                const std::string& address, const Console& console);
// 0: the newest generation that trainers have reported.
absl::Status RunHardness(uint64_t generation, const std::string& address, const Console& console);

// What a --model says: a name in the miner's store as it is, a directory as an absolute path. A directory
// that lies here goes before a hash that begins like it.
std::string ModelArgument(const std::string& model);

}  // namespace doppel
