#pragma once

#include <google/protobuf/descriptor.h>

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace doppel {

// Each may do what those below may.
enum class Role { kNobody = 0, kViewer = 1, kTrainer = 2, kOperator = 3 };

absl::string_view RoleName(Role role);
// "viewer", "trainer", "operator"; INVALID_ARGUMENT otherwise.
absl::StatusOr<Role> ParseRole(absl::string_view name);

enum class Plane {
  kOpen,     // no credential: probes
  kData,     // called all the time: audited when refused
  kControl,  // audited always, and limited in rate
};

struct MethodRule {
  absl::string_view method;  // "doppel.v1.MiningService/Describe"
  Role role;                 // at least this one
  Plane plane;
};

// All of them, ordered by method. What is not in here is refused to everybody.
const std::vector<MethodRule>& MethodRules();

// `path` as HTTP/2 has it: "/doppel.v1.MiningService/Describe". Null: there is none.
const MethodRule* FindMethodRule(absl::string_view path);

// INTERNAL names the methods of the service that have no rule: a server refuses to start with such a service.
absl::Status CheckServiceHasRules(const google::protobuf::ServiceDescriptor& service);

}  // namespace doppel
