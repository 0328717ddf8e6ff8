#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/catalog/catalog.h"
#include "services/ctl/cleaning_client.h"
#include "services/ctl/console.h"

namespace doppel {

// The commands `doppel clean …`. Each talks to the miner that `client` reaches and prints what came of it.
absl::Status RunCleanFind(const v1::FindRequest& request, CleaningClient& client, const Console& console);
absl::Status RunCleanList(const v1::ListFindingsRequest& request, CleaningClient& client,
                          const Console& console);
absl::Status RunCleanDecide(const v1::DecideRequest& request, bool dry_run, CleaningClient& client,
                            const Console& console);
absl::Status RunCleanUndo(uint64_t number, CleaningClient& client, const Console& console);
// To a file, or to the console if `path` is empty.
absl::Status RunCleanExport(const std::string& path, CleaningClient& client, const Console& console);
absl::Status RunCleanApply(const v1::ApplyRequest& request, CleaningClient& client, const Console& console);

struct CleanShowOptions {
  std::string id;
  std::string catalog;
  std::string png;  // file to write
  int columns = 12;
  int cell = 64;
};
// A contact sheet of a finding: the images of both identities of a pair, a block each; of a sample, it first,
// then the others of its identity, then those of the identity that it looks like.
absl::Status RunCleanShow(const CleanShowOptions& options, CleaningClient& client, const Console& console);

// "merge", "keep", "ignore", "drop".
absl::StatusOr<v1::Decision::Verdict> ParseVerdict(const std::string& word);

}  // namespace doppel
