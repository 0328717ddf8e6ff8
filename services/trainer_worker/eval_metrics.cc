#include "services/trainer_worker/eval_metrics.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"

namespace doppel {
namespace {

constexpr std::array<absl::string_view, 6> kNoMetrics = {"step",    "model_step",     "queries",
                                                         "gallery", "negative_pairs", "seconds"};

void Collect(const nlohmann::ordered_json& object, const std::string& above,
             std::vector<std::pair<std::string, double>>* metrics) {
  for (const auto& [key, value] : object.items()) {
    const std::string name = above.empty() ? key : absl::StrCat(above, "@", key);
    if (value.is_object()) {
      Collect(value, name, metrics);
    } else if (value.is_number() &&
               std::find(kNoMetrics.begin(), kNoMetrics.end(), key) == kNoMetrics.end()) {
      metrics->emplace_back(name, value.get<double>());
    }
  }
}

}  // namespace

std::vector<std::pair<std::string, double>> EvaluationMetrics(const std::string& json) {
  std::vector<std::pair<std::string, double>> metrics;
  const auto parsed = nlohmann::ordered_json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_object()) Collect(parsed, "", &metrics);
  return metrics;
}

absl::StatusOr<double> EvaluationMetric(const std::string& json, const std::string& name) {
  const auto metrics = EvaluationMetrics(json);
  for (const auto& [key, value] : metrics) {
    if (key == name) return value;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--early-stop: the evaluation has no \"", name, "\"; it has ",
      absl::StrJoin(metrics, ", ", [](std::string* out, const auto& item) { out->append(item.first); })));
}

}  // namespace doppel
