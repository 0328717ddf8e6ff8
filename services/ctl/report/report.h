#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/catalog/catalog.h"
#include "miner/generation/generation.h"

namespace doppel {

// One trainer's run: its folder holds steps.jsonl (one line per step) and, once something was evaluated,
// eval.jsonl.
struct RunInput {
  std::string name;  // shown everywhere: the plan's name
  std::string directory;
};

struct ReportInputs {
  std::string title = "doppel";
  // The first is the control that the others are held against.
  std::vector<RunInput> runs;
  // GenerationInfo as JSON, one per file, oldest first.
  std::vector<std::string> generation_files;
  // {"name": …, "rows": [{…}, …], "ratios": {…}}.
  std::vector<std::string> bench_files;
  // Lines to type to get the figures again.
  std::vector<std::string> commands;
  // Both or none: the look-alikes are those of this generation.
  std::shared_ptr<const Catalog> catalog;
  std::shared_ptr<const Generation> generation;
  int lookalike_rows = 12;
};

// One self-contained page: plots as inline SVG, pictures as data: URIs, no request to anywhere. What was not
// given is left out and said so. Errors name the file (and the line): NOT_FOUND for files listed that are not
// there, INVALID_ARGUMENT for files that cannot be read as what they should be. A last line cut off by a
// crash is forgiven.
absl::StatusOr<std::string> RenderReport(const ReportInputs& inputs);

// Writes it atomically.
absl::Status WriteReport(const ReportInputs& inputs, const std::string& html_path);

}  // namespace doppel
