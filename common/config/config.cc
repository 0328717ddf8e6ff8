#include "common/config/config.h"

#include <yaml-cpp/yaml.h>

#include <exception>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "common/base/status_macros.h"
#include "common/config/field.h"
#include "common/io/file_system.h"

namespace doppel {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// Messages may hold themselves; configurations are not deep.
constexpr int kMaxDepth = 16;

absl::Status At(absl::string_view where, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(where, ": ", status.message()));
}

bool IsMessage(const FieldDescriptor& field) { return field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE; }

// The text of a flag or variable: one value, or several with commas.
absl::Status SetFromText(const FieldDescriptor& field, absl::string_view text, Message* message) {
  if (!field.is_repeated()) return SetFieldFromText(field, text, message);
  for (absl::string_view part : absl::StrSplit(text, ',', absl::SkipWhitespace())) {
    RETURN_IF_ERROR(SetFieldFromText(field, absl::StripAsciiWhitespace(part), message));
  }
  return absl::OkStatus();
}

class YamlReader {
 public:
  explicit YamlReader(std::string name) : name_(std::move(name)) {}

  absl::Status ReadMessage(const YAML::Node& node, int depth, Message* message) const {
    if (node.IsNull()) return absl::OkStatus();
    if (!node.IsMap()) return Error(node, "expected \"key: value\" lines");
    if (depth > kMaxDepth) return Error(node, "nested too deeply");
    std::set<std::string> seen;
    for (const auto& entry : node) {
      if (!entry.first.IsScalar()) return Error(entry.first, "a key must be a plain name");
      const std::string& key = entry.first.Scalar();
      if (!seen.insert(key).second) return Error(entry.first, absl::StrCat("key \"", key, "\" occurs twice"));
      const FieldDescriptor* field = nullptr;
      RETURN_IF_ERROR(At(Place(entry.first), FindConfigField(*message->GetDescriptor(), key, &field)));
      RETURN_IF_ERROR(ReadField(*field, entry.first, entry.second, depth, message));
    }
    return absl::OkStatus();
  }

  std::string Place(const YAML::Mark& mark) const {
    return mark.line < 0 ? name_ : absl::StrCat(name_, ":", mark.line + 1);
  }

 private:
  absl::Status ReadField(const FieldDescriptor& field, const YAML::Node& key, const YAML::Node& value,
                         int depth, Message* message) const {
    if (field.is_map()) return Error(key, absl::StrCat(field.name(), ": maps cannot be configured"));
    if (!field.is_repeated()) {
      if (!IsMessage(field)) return ReadScalar(field, key, value, message);
      return ReadMessage(value, depth + 1, message->GetReflection()->MutableMessage(message, &field));
    }
    message->GetReflection()->ClearField(message, &field);
    if (!value.IsSequence())
      return Error(key, absl::StrCat(field.name(), ": expected a list ([a, b], or \"- a\" lines)"));
    for (const YAML::Node& item : value) {
      if (IsMessage(field)) {
        RETURN_IF_ERROR(ReadMessage(item, depth + 1, message->GetReflection()->AddMessage(message, &field)));
      } else {
        RETURN_IF_ERROR(ReadScalar(field, item, item, message));
      }
    }
    return absl::OkStatus();
  }

  absl::Status ReadScalar(const FieldDescriptor& field, const YAML::Node& where, const YAML::Node& value,
                          Message* message) const {
    if (value.IsNull())
      return Error(where, absl::StrCat(field.name(), ": no value: give one or remove the key"));
    if (!value.IsScalar()) return Error(where, absl::StrCat(field.name(), ": expected one value"));
    return At(absl::StrCat(Place(value), ": ", field.name()),
              SetFieldFromText(field, value.Scalar(), message));
  }

  std::string Place(const YAML::Node& node) const { return Place(node.Mark()); }
  absl::Status Error(const YAML::Node& node, absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat(Place(node), ": ", what));
  }

  const std::string name_;
};

absl::Status ApplyVariables(const ConfigEnvironment& environment, const std::string& prefix, int depth,
                            Message* message) {
  const Descriptor& type = *message->GetDescriptor();
  for (int i = 0; i < type.field_count() && depth <= kMaxDepth; ++i) {
    const FieldDescriptor& field = *type.field(i);
    const std::string name = absl::StrCat(prefix, absl::AsciiStrToUpper(field.name()));
    if (IsMessage(field)) {
      if (field.is_repeated()) continue;
      // On a copy, so that a section without variables stays unset.
      const std::unique_ptr<Message> section(message->GetReflection()->GetMessage(*message, &field).New());
      section->CopyFrom(message->GetReflection()->GetMessage(*message, &field));
      const std::string before = section->SerializePartialAsString();
      RETURN_IF_ERROR(ApplyVariables(environment, name + "_", depth + 1, section.get()));
      if (section->SerializePartialAsString() == before) continue;
      message->GetReflection()->MutableMessage(message, &field)->CopyFrom(*section);
      continue;
    }
    const std::optional<std::string> value = environment.lookup(name);
    if (!value.has_value()) continue;
    if (field.is_repeated()) message->GetReflection()->ClearField(message, &field);
    RETURN_IF_ERROR(At(name, SetFromText(field, *value, message)));
  }
  return absl::OkStatus();
}

// Walks down `path`; sets the last field and the message that holds it.
absl::Status FindByPath(const std::string& path, Message** message, const FieldDescriptor** field) {
  const std::vector<std::string> names = absl::StrSplit(path, '.');
  for (size_t i = 0; i < names.size(); ++i) {
    RETURN_IF_ERROR(FindConfigField(*(*message)->GetDescriptor(), names[i], field));
    if (i + 1 == names.size()) break;
    if (!IsMessage(**field) || (*field)->is_repeated()) {
      return absl::InvalidArgumentError(absl::StrCat("\"", names[i], "\" has no keys of its own"));
    }
    *message = (*message)->GetReflection()->MutableMessage(*message, *field);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ApplyYaml(absl::string_view text, const std::string& name, Message* config) {
  const YamlReader reader(name);
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(std::string(text));
    if (documents.size() > 1) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": holds several YAML documents: one is expected"));
    }
    return documents.empty() ? absl::OkStatus() : reader.ReadMessage(documents[0], 0, config);
  } catch (const YAML::Exception& e) {
    return absl::InvalidArgumentError(absl::StrCat(reader.Place(e.mark), ": ", e.msg));
  } catch (const std::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": ", e.what()));
  }
}

absl::Status ApplyEnvironment(const ConfigEnvironment& environment, Message* config) {
  if (!environment.lookup) return absl::OkStatus();
  return ApplyVariables(environment, environment.prefix, 0, config);
}

absl::Status ApplyOverrides(const ConfigOverrides& flags, Message* config) {
  std::set<std::pair<const Message*, const FieldDescriptor*>> lists;
  for (const auto& [key, value] : flags) {
    const std::string where = absl::StrCat("--", absl::StrReplaceAll(key, {{"_", "-"}}));
    Message* message = config;
    const FieldDescriptor* field = nullptr;
    RETURN_IF_ERROR(At(where, FindByPath(absl::StrReplaceAll(key, {{"-", "_"}}), &message, &field)));
    if (field->is_repeated() && lists.emplace(message, field).second) {
      message->GetReflection()->ClearField(message, field);
    }
    RETURN_IF_ERROR(At(where, SetFromText(*field, value, message)));
  }
  return absl::OkStatus();
}

absl::Status LoadConfig(const std::string& path, const ConfigOverrides& flags,
                        const ConfigEnvironment& environment, Message* config,
                        const ConfigValidator& validate) {
  const std::unique_ptr<Message> loaded(config->New());
  loaded->CopyFrom(*config);
  if (!path.empty()) {
    ASSIGN_OR_RETURN(const std::string text, PosixFileSystem().ReadFile(path));
    RETURN_IF_ERROR(ApplyYaml(text, path, loaded.get()));
  }
  RETURN_IF_ERROR(ApplyEnvironment(environment, loaded.get()));
  RETURN_IF_ERROR(ApplyOverrides(flags, loaded.get()));
  config->CopyFrom(*loaded);
  return validate ? validate() : absl::OkStatus();
}

}  // namespace doppel
