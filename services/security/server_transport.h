#pragma once

#include <google/protobuf/message.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/server_interceptor.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "services/security/gate.h"
#include "services/security/server_tls.h"

namespace doppel {

// INVALID_ARGUMENT or NOT_FOUND name the setting: a file is not there, or is no PEM.
absl::Status CheckServerTls(const ServerTls& tls);

// Every call that comes in by these, on whatever API it is served, asks the gate first (not owned; outlives
// the server). TLS 1.2 and 1.3; the files are loaded again when they change.
std::shared_ptr<grpc::ServerCredentials> MakeTlsServerCredentials(const ServerTls& tls, Gate* gate);
std::shared_ptr<grpc::ServerCredentials> MakeInsecureServerCredentials(Gate* gate);

// As Gate::Identify, for a call that was admitted.
absl::StatusOr<Principal> IdentifyCaller(const grpc::ServerContextBase& context, const Gate& gate);

// The name that a call's limits are counted under: its principal's, or the address where there is none.
std::string ClientOf(const grpc::ServerContextBase& context, const Gate& gate);

// Writes calls on the control plane to the gate's audit log when they end. Costs nothing on the data plane.
std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> MakeAuditInterceptorFactory(
    Gate* gate);

// "a=1 b=\"x\" c={d=2} e=[3] f=<16 bytes>": a request in at most 400 characters; fields that sound like a
// secret are left out.
std::string SummarizeRequest(const google::protobuf::Message& request);

}  // namespace doppel
