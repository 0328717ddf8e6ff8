#include "services/ctl/console.h"

#include <google/protobuf/util/json_util.h>
#include <yaml-cpp/yaml.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

void Emit(YAML::Emitter& out, const nlohmann::ordered_json& value) {
  switch (value.type()) {
    case nlohmann::json::value_t::object:
      if (value.empty()) out << YAML::Flow;
      out << YAML::BeginMap;
      for (const auto& [key, child] : value.items()) {
        out << YAML::Key << key << YAML::Value;
        Emit(out, child);
      }
      out << YAML::EndMap;
      break;
    case nlohmann::json::value_t::array:
      if (value.empty()) out << YAML::Flow;
      out << YAML::BeginSeq;
      for (const auto& child : value) Emit(out, child);
      out << YAML::EndSeq;
      break;
    case nlohmann::json::value_t::string:
      // Quoted: "no", "1" and "null" must stay text.
      out << YAML::DoubleQuoted << value.get<std::string>();
      break;
    case nlohmann::json::value_t::null:
      out << YAML::Null;
      break;
    default:
      out << value.dump();
  }
}

}  // namespace

absl::StatusOr<std::string> JsonToYaml(const std::string& json) {
  const auto value = nlohmann::ordered_json::parse(json, nullptr, false);
  if (value.is_discarded()) return absl::InvalidArgumentError("not JSON");
  YAML::Emitter out;
  Emit(out, value);
  return absl::StrCat(out.c_str(), "\n");
}

absl::StatusOr<std::string> MessageToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  if (!status.ok()) return absl::InternalError(absl::StrCat("cannot print as JSON: ", status.ToString()));
  return json;
}

absl::Status PrintJson(const Console& console, const std::string& json) {
  if (console.format != OutputFormat::kYaml) {
    console.out << json;
    if (json.empty() || json.back() != '\n') console.out << "\n";
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const std::string yaml, JsonToYaml(json));
  console.out << yaml;
  return absl::OkStatus();
}

absl::Status PrintMessage(const Console& console, const google::protobuf::Message& message) {
  ASSIGN_OR_RETURN(const std::string json, MessageToJson(message));
  return PrintJson(console, json);
}

int ExitCode(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kInvalidArgument:
      return 2;
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kAborted:
      return 3;
    default:
      return 1;
  }
}

}  // namespace doppel
