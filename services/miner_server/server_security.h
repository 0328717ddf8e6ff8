#pragma once

#include <grpcpp/server_builder.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "services/miner_server/miner_server.h"
#include "services/security/gate.h"

namespace doppel {

// What guards a server's ports: the gates, and what they look at. Outlives the server. Thread-safe.
class ServerSecurity {
 public:
  // FAILED_PRECONDITION: plain text on an address that others can reach, and nobody said so in so many words.
  // INTERNAL: a method of ours has no rule. Else as CheckServerTls, AccessFile and AuditLog.
  static absl::StatusOr<std::unique_ptr<ServerSecurity>> Open(const MinerServerOptions& options);

  // Adds the ports, the audit, and transport's limits.
  void Configure(const MinerServerOptions& options, grpc::ServerBuilder& builder, int* port);

  const Gate& gate() const { return *gate_; }

 private:
  ServerSecurity() = default;

  std::unique_ptr<AccessFile> access_;
  std::unique_ptr<AuditLog> audit_;
  std::unique_ptr<RateLimiter> control_rate_;
  std::unique_ptr<Gate> gate_;
  std::unique_ptr<Gate> local_gate_;
};

// True for "127.x.y.z:port", "[::1]:port", "localhost:port" and "unix:…".
bool IsLoopback(const std::string& listen);

}  // namespace doppel
