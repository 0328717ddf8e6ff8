#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace doppel {

// The numbers of an evaluation's JSON, nested ones as "recall@10" and "tar@1e-05", in the order of the JSON.
// What is counted or timed (steps, queries, seconds) is left out.
std::vector<std::pair<std::string, double>> EvaluationMetrics(const std::string& json);
// One of them; INVALID_ARGUMENT lists what there is.
absl::StatusOr<double> EvaluationMetric(const std::string& json, const std::string& name);

}  // namespace doppel
