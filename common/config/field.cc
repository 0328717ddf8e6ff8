#include "common/config/field.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace doppel {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

absl::Status Expected(absl::string_view text, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not ", what));
}

template <typename Int>
absl::Status ParseInt(absl::string_view text, Int* value) {
  if (absl::SimpleAtoi(text, value)) return absl::OkStatus();
  return Expected(text, absl::StrCat("a whole number from ", std::numeric_limits<Int>::min(), " to ",
                                     std::numeric_limits<Int>::max()));
}

absl::Status ParseDouble(absl::string_view text, double* value) {
  if (absl::SimpleAtod(text, value) && !std::isnan(*value)) return absl::OkStatus();
  return Expected(text, "a number");
}

absl::Status ParseBool(absl::string_view text, bool* value) {
  const std::string lower = absl::AsciiStrToLower(text);
  *value = lower == "true" || lower == "yes" || lower == "on" || lower == "1";
  if (*value || lower == "false" || lower == "no" || lower == "off" || lower == "0") return absl::OkStatus();
  return Expected(text, "true or false");
}

// "PayloadKind" → "PAYLOAD_KIND_".
std::string EnumPrefix(const EnumDescriptor& type) {
  std::string prefix;
  for (const char c : type.name()) {
    if (absl::ascii_isupper(c) && !prefix.empty()) prefix.push_back('_');
    prefix.push_back(absl::ascii_toupper(c));
  }
  return prefix + "_";
}

absl::Status ParseEnum(const EnumDescriptor& type, absl::string_view text,
                       const EnumValueDescriptor** value) {
  const std::string prefix = EnumPrefix(type);
  std::vector<std::string> allowed;
  for (int i = 0; i < type.value_count(); ++i) {
    *value = type.value(i);
    absl::string_view name((*value)->name());
    if (absl::EqualsIgnoreCase(name, text)) return absl::OkStatus();
    if (absl::StartsWith(name, prefix)) name.remove_prefix(prefix.size());
    if (absl::EqualsIgnoreCase(name, text)) return absl::OkStatus();
    if (!absl::EndsWith(name, "UNSPECIFIED")) allowed.push_back(absl::AsciiStrToLower(name));
  }
  return Expected(text, absl::StrCat("one of ", absl::StrJoin(allowed, ", ")));
}

size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({substituted, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

absl::Status SetFieldFromText(const FieldDescriptor& field, absl::string_view text, Message* message) {
  const Reflection& reflection = *message->GetReflection();
  const bool add = field.is_repeated();
  const auto set = [&](const absl::Status& status, auto value, auto setter, auto adder) {
    if (!status.ok()) return status;
    if (add) {
      (reflection.*adder)(message, &field, value);
    } else {
      (reflection.*setter)(message, &field, value);
    }
    return absl::OkStatus();
  };
  absl::Status status;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32: {
      int32_t value = 0;
      status = ParseInt(text, &value);
      return set(status, value, &Reflection::SetInt32, &Reflection::AddInt32);
    }
    case FieldDescriptor::CPPTYPE_INT64: {
      int64_t value = 0;
      status = ParseInt(text, &value);
      return set(status, value, &Reflection::SetInt64, &Reflection::AddInt64);
    }
    case FieldDescriptor::CPPTYPE_UINT32: {
      uint32_t value = 0;
      status = ParseInt(text, &value);
      return set(status, value, &Reflection::SetUInt32, &Reflection::AddUInt32);
    }
    case FieldDescriptor::CPPTYPE_UINT64: {
      uint64_t value = 0;
      status = ParseInt(text, &value);
      return set(status, value, &Reflection::SetUInt64, &Reflection::AddUInt64);
    }
    case FieldDescriptor::CPPTYPE_DOUBLE: {
      double value = 0;
      status = ParseDouble(text, &value);
      return set(status, value, &Reflection::SetDouble, &Reflection::AddDouble);
    }
    case FieldDescriptor::CPPTYPE_FLOAT: {
      double value = 0;
      status = ParseDouble(text, &value);
      return set(status, static_cast<float>(value), &Reflection::SetFloat, &Reflection::AddFloat);
    }
    case FieldDescriptor::CPPTYPE_BOOL: {
      bool value = false;
      status = ParseBool(text, &value);
      return set(status, value, &Reflection::SetBool, &Reflection::AddBool);
    }
    case FieldDescriptor::CPPTYPE_ENUM: {
      const EnumValueDescriptor* value = nullptr;
      status = ParseEnum(*field.enum_type(), text, &value);
      return set(status, value, &Reflection::SetEnum, &Reflection::AddEnum);
    }
    case FieldDescriptor::CPPTYPE_STRING:
      return set(status, std::string(text), &Reflection::SetString, &Reflection::AddString);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      break;
  }
  return absl::InvalidArgumentError("is a section: set the keys in it");
}

absl::Status FindConfigField(const Descriptor& type, absl::string_view name, const FieldDescriptor** field) {
  *field = type.FindFieldByName(std::string(name));
  if (*field != nullptr) return absl::OkStatus();
  std::vector<std::string> names;
  std::string nearest;
  size_t best = 3;  // two typing errors
  for (int i = 0; i < type.field_count(); ++i) {
    names.push_back(type.field(i)->name());
    // What is so much longer or shorter cannot be near, and may be very long.
    if (std::max(name.size(), names.back().size()) - std::min(name.size(), names.back().size()) >= best)
      continue;
    const size_t distance = EditDistance(name, names.back());
    if (distance < best) {
      best = distance;
      nearest = names.back();
    }
  }
  std::sort(names.begin(), names.end());
  return absl::InvalidArgumentError(
      absl::StrCat("unknown key \"", name, "\": ",
                   nearest.empty() ? absl::StrCat("the keys are ", absl::StrJoin(names, ", "))
                                   : absl::StrCat("did you mean \"", nearest, "\"?")));
}

}  // namespace doppel
