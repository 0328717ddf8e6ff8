#pragma once

#include <string>
#include <vector>

#include "services/ctl/report/run_data.h"

namespace doppel::report {

// What the figures say, in plain sentences: every run against the first one, at the last step that both were
// evaluated at. A difference within two standard errors is called none.
std::vector<std::string> Verdict(const std::vector<RunData>& runs);

}  // namespace doppel::report
