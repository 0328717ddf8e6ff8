#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace doppel {

struct ExportCommandOptions {
  std::string model;
  std::string output;
  std::string format = "table";  // table | json
};
// `doppel-trainer export`: the text to print.
absl::StatusOr<std::string> RunExport(const ExportCommandOptions& options);

}  // namespace doppel
