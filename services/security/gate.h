#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/base/clock.h"
#include "services/security/access_list.h"
#include "services/security/audit_log.h"
#include "services/security/rate_limiter.h"
#include "services/security/roles.h"

namespace doppel {

// What is known about a call before its first message is read.
struct CallFacts {
  std::string path;  // "/doppel.v1.MiningService/Describe"
  std::vector<std::string>
      certificate_names;  // of a verified certificate: "CN=…", "DNS:…", …; empty: there is none
  bool has_authorization = false;
  std::string authorization;  // "Bearer …"; a secret
};

struct GateOptions {
  // Null: the transport is insecure, and whoever reaches it has `anonymous_role`.
  AccessFile* access = nullptr;
  Role anonymous_role = Role::kOperator;
  std::string anonymous_name = "anonymous";
  AuditLog* audit = nullptr;       // null: none
  RateLimiter* control = nullptr;  // of calls on the control plane, per principal; null: no limit
};

// The one place that decides whether a call may go on: role of the caller against the rule of the method,
// then the rate. Refusals are audited (at most 50 a second). Thread-safe; what the options point at is not
// owned.
class Gate {
 public:
  explicit Gate(GateOptions options, const Clock& clock = Clock::Real());

  // UNAUTHENTICATED: no credential, or a bad one. PERMISSION_DENIED: not of this role, or no such method in
  // the rules. RESOURCE_EXHAUSTED names the limit.
  absl::Status Admit(const CallFacts& call);

  // UNAUTHENTICATED or PERMISSION_DENIED. A token goes before a certificate; a bad token is not helped by a
  // good certificate.
  absl::StatusOr<Principal> Identify(const CallFacts& call) const;

  // Callers are not told apart.
  bool is_open() const { return options_.access == nullptr; }
  AuditLog* audit() const { return options_.audit; }
  const Clock& clock() const { return clock_; }

 private:
  absl::Status Decide(const CallFacts& call, Principal* principal);

  const GateOptions options_;
  const Clock& clock_;
  RateLimiter refusals_;
};

}  // namespace doppel
