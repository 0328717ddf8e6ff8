#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/io/file_system.h"

namespace CLI {
class App;
}

namespace doppel {

// `doppel-trainer loss`: a loss of given embeddings, to be compared with any other library's.
struct LossCommandOptions {
  std::string embeddings;  // .npy [B, D] float32 or float64; the loss is computed in this type
  std::string labels;      // .npy [B] of integers
  std::string loss = "batch_hard";
  std::string distance = "euclidean";
  std::string margin = "soft";
  std::vector<std::string> options;  // "key=value", see LossOptionKeys()
  std::string triplets;              // .npy [T, 3] of integers: rows of anchor, positive, negative
  std::string gradient;              // .npy to write, [B, D] in the type of the embeddings
  std::string output = "table";      // table | json
};

// The subcommand with its flags. `options` must outlive the parsing.
CLI::App* AddLossCommand(CLI::App& app, LossCommandOptions* options);

// The text to print. JSON: {"loss", "value", "active", "triplets", "percentiles": {"d_ap", "d_an", "norm"}},
// each of these three with "p0", "p5", "p50", "p95", "p100"; numbers with all their digits. INVALID_ARGUMENT
// names the flag or file that is wrong.
absl::StatusOr<std::string> RunLoss(const LossCommandOptions& options, FileSystem& fs = PosixFileSystem());

}  // namespace doppel
