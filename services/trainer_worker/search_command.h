#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace CLI {
class App;
}

namespace doppel {

struct SearchCommandOptions {
  std::string index;    // [N, D] .npy
  std::string labels;   // [N] .npy
  std::string queries;  // [M, D] .npy
  std::string query_labels;
  std::string names;  // of the index' rows, or ""
  int top = 10;
  int identities = 5;  // 0: rows at once, without the first step
  bool ivf = false;
  int lists = 0;
  int probes = 16;
  int threads = 2;
  uint64_t seed = 1;
  std::string output = "table";  // table | json
};

// Adds the subcommand `search`.
CLI::App* AddSearchCommand(CLI::App& app, SearchCommandOptions* options);

// `doppel-trainer search`: the text to print. By cosine.
absl::StatusOr<std::string> RunSearch(const SearchCommandOptions& options);

}  // namespace doppel
