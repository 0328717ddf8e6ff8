#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "trainer/eval/open_gallery.h"

namespace doppel {

std::string ToJson(const IdentificationReport& report) {
  nlohmann::ordered_json json;
  json["protocol"] = "open gallery identification";
  json["model_step"] = report.model_step;
  json["queries"] = report.queries;
  json["gallery"] = report.gallery;
  json["negative_pairs"] = report.negative_pairs;
  for (const auto& [k, share] : report.recall) {
    if (k == 1) json["rank1"] = share;
  }
  json["recall"] = nlohmann::ordered_json::object();
  for (const auto& [k, share] : report.recall) json["recall"][absl::StrCat(k)] = share;
  json["tar"] = nlohmann::ordered_json::object();
  for (const auto& [far, share] : report.tar) json["tar"][absl::StrFormat("%g", far)] = share;
  json["refused_far_targets"] = report.refused_far_targets;
  json["seconds"] = report.seconds;
  return json.dump(2);
}

}  // namespace doppel
