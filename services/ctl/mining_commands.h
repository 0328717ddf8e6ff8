#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "doppel/v1/mining.pb.h"
#include "services/ctl/console.h"
#include "services/ctl/mining_client.h"

namespace doppel {

struct ReclusterOptions {
  v1::ReclusterRequest request;
  bool wait = true;
  bool dry_run = false;  // print the request, ask nobody
  absl::Duration poll = absl::Milliseconds(500);
  // How long a miner may be away (restarting) while we wait for its job.
  absl::Duration patience = absl::Seconds(60);
  // Asked between two looks; true leaves the job running and ends with ABORTED.
  std::function<bool()> interrupted = [] { return false; };
};
// Starts a job, waits with a progress bar and prints the generation. A failed job is INTERNAL, a cancelled
// one ABORTED.
absl::Status RunRecluster(const ReclusterOptions& options, MiningClient& client, const Console& console);

absl::Status RunGenerations(MiningClient& client, const Console& console);
// 0: the active one. Lists 20 subspaces, all of them if wide.
absl::Status RunGeneration(uint64_t generation, MiningClient& client, const Console& console);
absl::Status RunActivate(uint64_t generation, bool dry_run, MiningClient& client, const Console& console);
absl::Status RunOperations(MiningClient& client, const Console& console);
absl::Status RunCancel(const std::string& id, bool dry_run, MiningClient& client, const Console& console);
absl::Status RunStatus(MiningClient& client, const Console& console);

// For the commands above.
absl::Status PrintGeneration(const v1::GenerationInfo& generation, const Console& console);
std::string OperationState(v1::Operation::State state);  // "running"
std::string ShortFingerprint(const std::string& fingerprint);

}  // namespace doppel
