#include "trainer/train/schedule.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace doppel {
namespace {

constexpr double kPi = 3.14159265358979323846;

double FinalFactor(const ScheduleOptions& options) {
  return options.final_factor.value_or(options.name == "exponential" ? 0.001 : 0.0);
}

}  // namespace

std::vector<std::string> ScheduleNames() { return {"constant", "linear", "cosine", "exponential", "step"}; }

absl::Status CheckSchedule(const ScheduleOptions& options) {
  const std::vector<std::string> names = ScheduleNames();
  if (std::find(names.begin(), names.end(), options.name) == names.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("no schedule is called \"", options.name, "\": there are ", absl::StrJoin(names, ", ")));
  }
  if (!(options.rate > 0 && std::isfinite(options.rate))) {
    return absl::InvalidArgumentError(absl::StrCat("learning rate ", options.rate, " must be above 0"));
  }
  if (options.steps == 0 && options.name != "constant" && options.name != "step") {
    return absl::InvalidArgumentError(
        absl::StrCat("schedule ", options.name, " needs to know the number of steps of the run"));
  }
  if (options.name == "step" && (options.step_every == 0 || !(options.step_factor > 0))) {
    return absl::InvalidArgumentError(
        "schedule step needs the steps between two drops (≥ 1) and a factor above 0");
  }
  const double factor = FinalFactor(options);
  if (!(factor >= 0 && factor <= 1) || (options.name == "exponential" && factor == 0)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "final factor ", factor, " must lie in [0, 1], and above 0 for the exponential schedule"));
  }
  return absl::OkStatus();
}

double LearningRate(const ScheduleOptions& options, uint64_t done) {
  if (done < options.warmup) {
    return options.rate * static_cast<double>(done + 1) / static_cast<double>(options.warmup);
  }
  const uint64_t start = std::max(options.warmup, options.decay_start);
  if (options.name == "constant" || done < start) return options.rate;
  if (options.name == "step") {
    return options.rate *
           std::pow(options.step_factor, static_cast<double>((done - start) / options.step_every));
  }
  const double factor = FinalFactor(options);
  const double t =
      start >= options.steps
          ? 1.0
          : std::min(1.0, static_cast<double>(done - start) / static_cast<double>(options.steps - start));
  if (options.name == "linear") return options.rate * (1 - (1 - factor) * t);
  if (options.name == "exponential") return options.rate * std::pow(factor, t);
  return options.rate * (factor + (1 - factor) * 0.5 * (1 + std::cos(kPi * t)));
}

}  // namespace doppel
