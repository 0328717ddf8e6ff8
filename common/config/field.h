#pragma once

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace doppel {

// One scalar or enum field set from text, by reflection. Internal to common/config.

// Sets, or adds to if repeated. INVALID_ARGUMENT says what is expected, not where.
absl::Status SetFieldFromText(const google::protobuf::FieldDescriptor& field, absl::string_view text,
                              google::protobuf::Message* message);

// The field `name` of `type`. INVALID_ARGUMENT proposes the nearest name, or lists them.
absl::Status FindConfigField(const google::protobuf::Descriptor& type, absl::string_view name,
                             const google::protobuf::FieldDescriptor** field);

}  // namespace doppel
