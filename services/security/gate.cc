#include "services/security/gate.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

constexpr absl::string_view kBearer = "Bearer ";
constexpr double kAuditedRefusalsPerSecond = 50;
// Whatever is longer is none of ours, and hashing it would be work for an outsider.
constexpr size_t kMaxTokenBytes = 512;

}  // namespace

Gate::Gate(GateOptions options, const Clock& clock)
    : options_(std::move(options)),
      clock_(clock),
      refusals_(kAuditedRefusalsPerSecond, kAuditedRefusalsPerSecond) {}

absl::StatusOr<Principal> Gate::Identify(const CallFacts& call) const {
  if (options_.access == nullptr) return Principal{options_.anonymous_name, options_.anonymous_role};
  if (call.has_authorization) {
    const absl::string_view value = call.authorization;
    if (!absl::StartsWithIgnoreCase(value, kBearer) || value.size() > kMaxTokenBytes) {
      return absl::UnauthenticatedError("authorization: expected \"Bearer TOKEN\"");
    }
    return options_.access->Current()->OfToken(value.substr(kBearer.size()), clock_.Now());
  }
  if (!call.certificate_names.empty())
    return options_.access->Current()->OfCertificate(call.certificate_names);
  return absl::UnauthenticatedError(
      "no credential: give a certificate (--tls-cert, --tls-key) or a token (--token-file)");
}

absl::Status Gate::Decide(const CallFacts& call, Principal* principal) {
  const MethodRule* rule = FindMethodRule(call.path);
  if (rule != nullptr && rule->plane == Plane::kOpen) return absl::OkStatus();
  // Before the method is looked at: an outsider does not learn which ones there are.
  ASSIGN_OR_RETURN(*principal, Identify(call));
  if (rule == nullptr) {
    return absl::PermissionDeniedError(absl::StrCat(call.path, ": there is no such method for anybody"));
  }
  if (principal->role < rule->role) {
    return absl::PermissionDeniedError(absl::StrCat(rule->method, " needs the role ", RoleName(rule->role),
                                                    "; ", principal->name, " is ",
                                                    RoleName(principal->role)));
  }
  if (rule->plane == Plane::kControl && options_.control != nullptr &&
      !options_.control->Allow(principal->name, clock_.Now())) {
    return absl::ResourceExhaustedError(
        absl::StrCat("control_rpcs_per_second: ", principal->name, " calls more often than ",
                     options_.control->per_second(), " times a second: wait a moment and try again"));
  }
  return absl::OkStatus();
}

absl::Status Gate::Admit(const CallFacts& call) {
  Principal principal;
  absl::Status status = Decide(call, &principal);
  if (status.ok() || options_.audit == nullptr) return status;
  const absl::Time now = clock_.Now();
  if (!refusals_.Allow("", now)) return status;
  AuditRecord record;
  record.time = now;
  record.who = !principal.name.empty()          ? principal.name
               : call.certificate_names.empty() ? ""
                                                : call.certificate_names[0];
  record.role = std::string(RoleName(principal.role));
  record.method = call.path.empty() ? "" : call.path.substr(1, 200);
  record.code = absl::StatusCodeToString(status.code());
  record.error = std::string(status.message().substr(0, 300));
  options_.audit->Write(record);
  return status;
}

}  // namespace doppel
