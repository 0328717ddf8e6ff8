#include "services/ctl/report/run_data.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/status_macros.h"
#include "common/io/file_system.h"
#include "nlohmann/json.hpp"

namespace doppel::report {
namespace {

using RunJson = nlohmann::json;

std::optional<double> OptionalNumber(const RunJson& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number()) return std::nullopt;
  return found->get<double>();
}

uint64_t Count(const RunJson& object, const char* key) {
  return static_cast<uint64_t>(std::max(0.0, OptionalNumber(object, key).value_or(0)));
}

std::optional<Percentiles> ReadPercentiles(const RunJson& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_object()) return std::nullopt;
  const auto p5 = OptionalNumber(*found, "p5"), p50 = OptionalNumber(*found, "p50"),
             p95 = OptionalNumber(*found, "p95");
  if (!p5 || !p50 || !p95) return std::nullopt;
  return Percentiles{*p5, *p50, *p95};
}

StepLine ReadStep(const RunJson& json) {
  StepLine line;
  line.step = OptionalNumber(json, "step").value_or(0);
  line.loss = OptionalNumber(json, "loss");
  line.active = OptionalNumber(json, "active");
  line.images_per_second = OptionalNumber(json, "images_per_second");
  line.wait_seconds = OptionalNumber(json, "wait_seconds");
  line.mean_similarity = OptionalNumber(json, "mean_similarity");
  line.d_ap = ReadPercentiles(json, "d_ap");
  line.d_an = ReadPercentiles(json, "d_an");
  line.generation = Count(json, "generation");
  return line;
}

// {"1e-06": 0.5, …}, keys as numbers.
std::map<double, double> ReadCurve(const RunJson& json, const char* key) {
  std::map<double, double> curve;
  const auto found = json.find(key);
  if (found == json.end() || !found->is_object()) return curve;
  for (const auto& [name, value] : found->items()) {
    double x = 0;
    if (value.is_number() && absl::SimpleAtod(name, &x)) curve[x] = value.get<double>();
  }
  return curve;
}

EvalLine ReadEval(const RunJson& json) {
  EvalLine line;
  line.step = OptionalNumber(json, "step").value_or(OptionalNumber(json, "model_step").value_or(0));
  if (const auto found = json.find("protocol"); found != json.end() && found->is_string())
    line.protocol = *found;
  line.queries = Count(json, "queries");
  line.gallery = Count(json, "gallery");
  line.rank1 = OptionalNumber(json, "rank1");
  for (const auto& [k, share] : ReadCurve(json, "recall")) line.recall[static_cast<int>(k)] = share;
  line.tar = ReadCurve(json, "tar");
  return line;
}

absl::StatusOr<std::vector<RunJson>> ReadJsonLines(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, PosixFileSystem().ReadFile(path));
  const std::vector<absl::string_view> lines = absl::StrSplit(text, '\n');
  std::vector<RunJson> objects;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].empty()) continue;
    RunJson json = RunJson::parse(lines[i].begin(), lines[i].end(), nullptr, false);
    if (json.is_object()) {
      objects.push_back(std::move(json));
    } else if (i + 1 < lines.size()) {  // the last one may be cut off
      return absl::InvalidArgumentError(absl::StrCat(path, ":", i + 1, ": not a JSON object"));
    }
  }
  return objects;
}

}  // namespace

absl::StatusOr<RunData> ReadRun(const RunInput& input) {
  RunData run;
  run.name = input.name;
  run.directory = input.directory;
  const std::string steps_path = absl::StrCat(input.directory, "/steps.jsonl");
  if (!PosixFileSystem().Exists(steps_path)) {
    return absl::NotFoundError(
        absl::StrCat(steps_path, ": missing; is ", input.directory, " the folder of a run?"));
  }
  ASSIGN_OR_RETURN(const auto steps, ReadJsonLines(steps_path));
  for (const RunJson& json : steps) run.steps.push_back(ReadStep(json));
  const std::string eval_path = absl::StrCat(input.directory, "/eval.jsonl");
  if (PosixFileSystem().Exists(eval_path)) {
    ASSIGN_OR_RETURN(const auto evals, ReadJsonLines(eval_path));
    for (const RunJson& json : evals) run.evals.push_back(ReadEval(json));
  }
  std::stable_sort(run.evals.begin(), run.evals.end(),
                   [](const EvalLine& a, const EvalLine& b) { return a.step < b.step; });
  return run;
}

std::optional<double> MeanOf(const RunData& run, std::optional<double> StepLine::*field) {
  double sum = 0;
  int count = 0;
  for (const StepLine& line : run.steps) {
    if (!(line.*field)) continue;
    sum += *(line.*field);
    ++count;
  }
  if (count == 0) return std::nullopt;
  return sum / count;
}

}  // namespace doppel::report
