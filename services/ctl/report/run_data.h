#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/ctl/report/report.h"

namespace doppel::report {

struct Percentiles {
  double p5 = 0, p50 = 0, p95 = 0;
};

// One line of steps.jsonl; what a line does not have, or has as null, stays unset.
struct StepLine {
  double step = 0;
  std::optional<double> loss, active, images_per_second, wait_seconds, mean_similarity;
  std::optional<Percentiles> d_ap, d_an;
  uint64_t generation = 0;
};

struct EvalLine {
  double step = 0;
  std::string protocol;
  uint64_t queries = 0;
  uint64_t gallery = 0;
  std::optional<double> rank1;
  std::map<int, double> recall;  // K → share
  std::map<double, double> tar;  // FAR → TAR
};

struct RunData {
  std::string name;
  std::string directory;
  std::vector<StepLine> steps;
  std::vector<EvalLine> evals;  // by step
};

// steps.jsonl must be there, eval.jsonl may be.
absl::StatusOr<RunData> ReadRun(const RunInput& input);

// Mean of a field over the steps that have it.
std::optional<double> MeanOf(const RunData& run, std::optional<double> StepLine::*field);

}  // namespace doppel::report
