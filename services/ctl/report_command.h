#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "services/ctl/console.h"

namespace doppel {

struct ReportOptions {
  std::string html;
  std::string title = "doppel";
  std::vector<std::string> runs;  // "NAME=DIR"; the first is the control
  std::vector<std::string> generations;
  std::vector<std::string> benches;
  std::vector<std::string> commands;
  // For the contact sheet of look-alikes: both or none.
  std::string catalog;
  std::string state;        // the miner's state directory
  uint64_t generation = 0;  // 0: the newest in it
  int lookalikes = 12;
};

// Writes one self-contained page and prints where it is. INVALID_ARGUMENT for runs that are not NAME=DIR.
absl::Status RunReport(const ReportOptions& options, const Console& console);

}  // namespace doppel
