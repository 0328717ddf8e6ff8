#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace doppel::report {

// A table per file, its ratios below. Errors name the file. Empty if there are no files.
absl::StatusOr<std::string> BenchSection(const std::vector<std::string>& files);

}  // namespace doppel::report
