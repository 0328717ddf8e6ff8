#pragma once

#include <string>

#include "absl/status/status.h"
#include "doppel/v1/config.pb.h"

namespace doppel {

// What doppel-miner runs with if nothing else is said.
v1::MinerConfig DefaultMinerConfig();

// INVALID_ARGUMENT names the key and what is allowed.
absl::Status ValidateMinerConfig(const v1::MinerConfig& config);

// One line of help for a field of MinerConfig, by its name. Empty: there is none.
std::string MinerConfigHelp(const std::string& field);

}  // namespace doppel
