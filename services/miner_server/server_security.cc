#include "services/miner_server/server_security.h"

#include <arpa/inet.h>
#include <google/protobuf/descriptor.h>
#include <grpcpp/resource_quota.h>

#include <algorithm>
#include <climits>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "services/security/server_transport.h"

namespace doppel {
namespace {

int Milliseconds(double seconds) { return static_cast<int>(std::min(seconds * 1000, double{INT_MAX})); }

int Bounded(uint64_t value) { return static_cast<int>(std::min<uint64_t>(value, INT_MAX)); }

// Every service of our protos that is linked in, whether it is registered or not.
absl::Status CheckRules() {
  const auto* pool = google::protobuf::DescriptorPool::generated_pool();
  for (const char* const name : kMinerServices) {
    const auto* service = pool->FindServiceByName(name);
    if (service == nullptr) return absl::InternalError(absl::StrCat(name, ": there is no such service"));
    RETURN_IF_ERROR(CheckServiceHasRules(*service));
  }
  return absl::OkStatus();
}

void ConfigureLimits(const ServerLimits& limits, grpc::ServerBuilder& builder) {
  // A second server on the same port must fail, not take a share of the connections.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, Bounded(limits.max_streams_per_connection));
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, Bounded(limits.max_metadata_bytes));
  // Of TLS and of HTTP/2's greeting, so that a connection that drips holds its place for so long only.
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                             Milliseconds(limits.handshake_timeout_seconds));
  // Finds peers that went away without a word, and cuts off those that ask too often.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, Milliseconds(limits.keepalive_seconds));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, Milliseconds(limits.keepalive_timeout_seconds));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             Milliseconds(limits.min_ping_interval_seconds));
  if (limits.max_connection_age_seconds > 0) {
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS,
                               Milliseconds(limits.max_connection_age_seconds));
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS,
                               Milliseconds(limits.max_connection_grace_seconds));
  }
  // Never sends from memory that a peer could have changed under it; weak in this version besides.
  builder.AddChannelArgument(GRPC_ARG_TCP_TX_ZEROCOPY_ENABLED, 0);
  if (limits.transport_memory_bytes > 0) {
    builder.SetResourceQuota(
        grpc::ResourceQuota("doppel-miner").Resize(static_cast<size_t>(limits.transport_memory_bytes)));
  }
  builder.SetMaxReceiveMessageSize(limits.max_request_bytes == 0 ? -1 : Bounded(limits.max_request_bytes));
  builder.SetMaxSendMessageSize(-1);
}

}  // namespace

bool IsLoopback(const std::string& listen) {
  for (const char* const prefix : {"localhost:", "[::1]:", "unix:"}) {
    if (absl::StartsWith(listen, prefix)) return true;
  }
  // By number: "127.example.org" is a name.
  in_addr address = {};
  const std::string host = listen.substr(0, listen.find(':'));
  return inet_pton(AF_INET, host.c_str(), &address) == 1 && ntohl(address.s_addr) >> 24 == 127;
}

absl::StatusOr<std::unique_ptr<ServerSecurity>> ServerSecurity::Open(const MinerServerOptions& options) {
  RETURN_IF_ERROR(CheckRules());
  std::unique_ptr<ServerSecurity> security(new ServerSecurity());
  if (!options.audit.path.empty()) {
    ASSIGN_OR_RETURN(security->audit_, AuditLog::Open(options.audit));
  }
  security->control_rate_ =
      std::make_unique<RateLimiter>(options.limits.control_rpcs_per_second, options.limits.control_rpc_burst);
  GateOptions gate;
  gate.audit = security->audit_.get();
  gate.control = security->control_rate_.get();
  if (options.tls.enabled()) {
    RETURN_IF_ERROR(CheckServerTls(options.tls));
    ASSIGN_OR_RETURN(security->access_, AccessFile::Open(options.access_file));
    gate.access = security->access_.get();
  } else if (!IsLoopback(options.listen)) {
    if (!options.insecure_listen_anywhere) {
      return absl::FailedPreconditionError(absl::StrCat(
          "listen: ", options.listen,
          " without TLS would let in whoever reaches it, and in plain text: give --tls-cert, --tls-key and "
          "--access-file (deploy/make-certs.sh makes them for a test), or say --insecure-listen-anywhere"));
    }
    DOPPEL_LOG(kWarning, "insecure_listen_anywhere: whoever reaches ", options.listen,
               " may read all images and do all that an operator may");
  }
  security->gate_ = std::make_unique<Gate>(gate);
  gate.access = nullptr;
  gate.anonymous_name = "local-embedder";
  gate.anonymous_role = Role::kTrainer;
  security->local_gate_ = std::make_unique<Gate>(gate);
  return security;
}

void ServerSecurity::Configure(const MinerServerOptions& options, grpc::ServerBuilder& builder, int* port) {
  ConfigureLimits(options.limits, builder);
  builder.AddListeningPort(options.listen,
                           options.tls.enabled() ? MakeTlsServerCredentials(options.tls, gate_.get())
                                                 : MakeInsecureServerCredentials(gate_.get()),
                           port);
  if (!options.local_socket.empty()) {
    builder.AddListeningPort("unix:" + options.local_socket,
                             MakeInsecureServerCredentials(local_gate_.get()));
  }
  if (audit_ == nullptr) return;
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
  interceptors.push_back(MakeAuditInterceptorFactory(gate_.get()));
  builder.experimental().SetInterceptorCreators(std::move(interceptors));
}

}  // namespace doppel
