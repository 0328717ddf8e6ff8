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
  bool dry_run = false;       // have the miner compute the statistics and publish nothing
  bool show_request = false;  // print the request, ask nobody
  bool watch = false;         // a line for every phase and every tenth of it
  absl::Duration poll = absl::Milliseconds(500);
  // How long a miner may be away (restarting) while we wait for its job.
  absl::Duration patience = absl::Seconds(60);
  // Asked between two looks; true leaves the job running and ends with ABORTED.
  std::function<bool()> interrupted = [] { return false; };
};
// Starts a job, waits with a progress bar and prints the generation (a dry run: what it would have been). A
// failed job is INTERNAL, a cancelled one ABORTED.
absl::Status RunRecluster(const ReclusterOptions& options, MiningClient& client, const Console& console);

absl::Status RunGenerations(MiningClient& client, const Console& console);
// 0: the active one. Lists 20 subspaces, all of them if wide.
absl::Status RunGeneration(uint64_t generation, MiningClient& client, const Console& console);
absl::Status RunActivate(uint64_t generation, bool dry_run, MiningClient& client, const Console& console);
absl::Status RunOperations(MiningClient& client, const Console& console);
absl::Status RunCancel(const std::string& id, bool dry_run, MiningClient& client, const Console& console);
absl::Status RunStatus(MiningClient& client, const Console& console);

absl::Status RunRollback(bool dry_run, MiningClient& client, const Console& console);
absl::Status RunRetire(uint64_t generation, bool dry_run, MiningClient& client, const Console& console);
absl::Status RunPin(uint64_t generation, bool pinned, bool dry_run, MiningClient& client,
                    const Console& console);
// limit 0: 20.
absl::Status RunDiff(uint64_t from, uint64_t to, uint32_t limit, MiningClient& client,
                     const Console& console);
absl::Status RunShowPolicy(MiningClient& client, const Console& console);
// Changes the one that there is.
absl::Status RunSetPolicy(const std::function<void(v1::ReclusterPolicySpec&)>& change, bool dry_run,
                          MiningClient& client, const Console& console);
absl::Status RunSubspace(uint64_t generation, uint32_t subspace, uint32_t limit, MiningClient& client,
                         const Console& console);

struct LookalikesOptions {
  std::string identity;
  uint64_t generation = 0;
  uint32_t count = 16;
  bool pictures = true;
  std::string sheet;  // PNG to write; empty: named after the identity, but not if the output is structured
};
absl::Status RunLookalikes(const LookalikesOptions& options, MiningClient& client, const Console& console);

// Prints events until the miner goes.
absl::Status RunWatch(uint64_t after, MiningClient& client, const Console& console);

struct WatchStatusOptions {
  absl::Duration interval = absl::Seconds(1);
  uint64_t looks = 0;  // 0: until it is interrupted
};
// Redraws a terminal; elsewhere a line when something has changed.
absl::Status RunWatchStatus(const WatchStatusOptions& options, MiningClient& client, const Console& console);

// For the commands above.
absl::Status PrintStatus(const v1::DescribeResponse& description, const MiningClient& client,
                         const Console& console);
absl::Status PrintGeneration(const v1::GenerationInfo& generation, const Console& console);
std::string OperationState(v1::Operation::State state);  // "running"
std::string ShortFingerprint(const std::string& fingerprint);

}  // namespace doppel
