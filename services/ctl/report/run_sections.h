#pragma once

#include <string>
#include <vector>

#include "services/ctl/report/run_data.h"

namespace doppel::report {

// Table of the last evaluation of every run, and how the training went.
std::string FinalFiguresSection(const std::vector<RunData>& runs);
// Rank-1 and TAR@FAR over steps.
std::string AccuracySection(const std::vector<RunData>& runs);
// Active share, loss, distances.
std::string TrainingSection(const std::vector<RunData>& runs);

}  // namespace doppel::report
