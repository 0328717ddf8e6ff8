#include "services/miner_server/miner_config.h"

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "services/miner_server/server_limits.h"
#include "services/security/audit_log.h"
#include "services/security/server_tls.h"

namespace doppel {
namespace {

absl::Status InvalidSetting(absl::string_view key, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(key, ": ", what));
}

absl::Status CheckRange(absl::string_view key, double value, double low, double high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return InvalidSetting(key, absl::StrCat(value, " is not within ", low, " … ", high));
}

void SetDefaultLimits(v1::MinerConfig* config) {
  const ServerLimits limits;
  config->set_max_request_bytes(limits.max_request_bytes);
  config->set_max_streams(limits.max_streams);
  config->set_max_streams_per_client(limits.max_streams_per_client);
  config->set_max_streams_per_connection(limits.max_streams_per_connection);
  config->set_max_batch_bytes(limits.max_batch_bytes);
  config->set_queued_batch_bytes(limits.queued_batch_bytes);
  config->set_max_unread_seconds(limits.max_unread_seconds);
  config->set_max_wait_seconds(limits.max_wait_seconds);
  config->set_max_metadata_bytes(limits.max_metadata_bytes);
  config->set_transport_memory_bytes(limits.transport_memory_bytes);
  config->set_max_connection_age_seconds(limits.max_connection_age_seconds);
  config->set_max_connection_grace_seconds(limits.max_connection_grace_seconds);
  config->set_keepalive_seconds(limits.keepalive_seconds);
  config->set_keepalive_timeout_seconds(limits.keepalive_timeout_seconds);
  config->set_min_ping_interval_seconds(limits.min_ping_interval_seconds);
  config->set_handshake_timeout_seconds(limits.handshake_timeout_seconds);
  config->set_control_rpcs_per_second(limits.control_rpcs_per_second);
  config->set_control_rpc_burst(limits.control_rpc_burst);
  const AuditLogOptions audit;
  config->set_audit_log_bytes(audit.max_bytes);
  config->set_audit_log_files(audit.files);
  config->set_tls_reload_seconds(ServerTls().reload_seconds);
}

absl::Status CheckSecurity(const v1::MinerConfig& config) {
  if (config.tls_cert().empty() != config.tls_key().empty()) {
    return InvalidSetting(config.tls_cert().empty() ? "tls_cert" : "tls_key",
                          "is not set: certificate and key go together");
  }
  const bool tls = !config.tls_cert().empty();
  if (tls && config.access_file().empty()) {
    return InvalidSetting("access_file", "is not set: with TLS nobody is let in who is not named in it");
  }
  if (tls && config.insecure_listen_anywhere()) {
    return InvalidSetting("insecure_listen_anywhere", "goes without TLS alone: leave it out");
  }
  for (const auto& [key, value] :
       {std::pair<const char*, bool>{"tls_client_ca", !config.tls_client_ca().empty()},
        {"access_file", !config.access_file().empty()},
        {"require_client_certificate", config.require_client_certificate()}}) {
    if (!tls && value) return InvalidSetting(key, "needs TLS: set tls_cert and tls_key as well");
  }
  if (config.require_client_certificate() && config.tls_client_ca().empty()) {
    return InvalidSetting("tls_client_ca",
                          "is not set: require_client_certificate needs to know who signs them");
  }
  for (const std::string& root : config.model_roots()) {
    if (root.empty() || root.front() != '/') {
      return InvalidSetting("model_roots", absl::StrCat("\"", root, "\" is not an absolute path"));
    }
  }
  for (const std::string& root : config.embedding_roots()) {
    if (root.empty() || root.front() != '/') {
      return InvalidSetting("embedding_roots", absl::StrCat("\"", root, "\" is not an absolute path"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

v1::MinerConfig DefaultMinerConfig() {
  v1::MinerConfig config;
  config.set_listen("127.0.0.1:50051");
  config.set_embedders(1);
  config.set_embedder_threads(2);
  config.set_embedder_device("auto");
  config.set_batch_threads(2);
  config.set_drain_seconds(10);
  config.set_max_credits(64);
  config.set_part_bytes(uint64_t{2} << 20);
  config.set_lease_identities(1024);
  config.set_lease_seconds(60);
  config.set_max_batch_samples(16384);
  config.set_http_port(-1);
  config.set_log_level("info");
  config.set_log_format("text");
  config.set_keep_generations(4);
  config.set_cluster_nice(10);
  config.set_recluster_min_interval(60);
  config.set_recluster_max_per_day(48);
  config.set_stall_seconds(600);
  SetDefaultLimits(&config);
  config.set_keep_models(16);
  config.set_live_half_life(100);
  config.set_live_snapshot_seconds(60);
  return config;
}

absl::Status ValidateMinerConfig(const v1::MinerConfig& config) {
  if (config.catalog().empty())
    return InvalidSetting("catalog", "is not set: the directory that `doppel import` wrote");
  if (config.state().empty())
    return InvalidSetting("state", "is not set: a directory for generations and the journal");
  if (config.listen().find(':') == std::string::npos) {
    return InvalidSetting(
        "listen", absl::StrCat("\"", config.listen(), "\" is not HOST:PORT, for example 127.0.0.1:50051"));
  }
  struct Range {
    const char* key;
    double value, low, high;
  };
  for (const Range& range :
       {Range{"embedders", double(config.embedders()), 0, 256},
        Range{"embedder_threads", double(config.embedder_threads()), 1, 1024},
        Range{"batch_threads", double(config.batch_threads()), 1, 1024},
        Range{"cluster_threads", double(config.cluster_threads()), 0, 1024},
        Range{"drain_seconds", config.drain_seconds(), 0, 3600},
        Range{"max_credits", double(config.max_credits()), 1, 65536},
        Range{"part_bytes", double(config.part_bytes()), 1024, double(uint64_t{1} << 30)},
        Range{"lease_identities", double(config.lease_identities()), 1, 1 << 24},
        Range{"lease_seconds", config.lease_seconds(), 0.1, 86400},
        Range{"max_batch_samples", double(config.max_batch_samples()), 1, 1 << 24},
        Range{"cluster_nice", double(config.cluster_nice()), 0, 19},
        Range{"recluster_min_active_share", config.recluster_min_active_share(), 0, 1},
        Range{"recluster_max_churn", config.recluster_max_churn(), 0, 1},
        Range{"stall_seconds", config.stall_seconds(), 0, 30 * 86400.0},
        Range{"recluster_min_interval", config.recluster_min_interval(), 1, 30 * 86400.0},
        Range{"recluster_max_per_day", double(config.recluster_max_per_day()), 1, 86400},
        Range{"audit_log_bytes", double(config.audit_log_bytes()), 0, 1e15},
        Range{"audit_log_files", double(config.audit_log_files()), 0, 1000},
        Range{"tls_reload_seconds", double(config.tls_reload_seconds()), 1, 86400},
        Range{"max_request_bytes", double(config.max_request_bytes()), 1024, double(INT32_MAX)},
        Range{"max_streams", double(config.max_streams()), 0, 1 << 24},
        Range{"max_streams_per_client", double(config.max_streams_per_client()), 0, 1 << 24},
        Range{"max_streams_per_connection", double(config.max_streams_per_connection()), 1, 1 << 20},
        Range{"max_batch_bytes", double(config.max_batch_bytes()), 1, 1e12},
        Range{"queued_batch_bytes", double(config.queued_batch_bytes()), 0, 1e15},
        Range{"max_unread_seconds", config.max_unread_seconds(), 1, 2e6},
        Range{"max_wait_seconds", config.max_wait_seconds(), 0, 7 * 86400},
        Range{"max_metadata_bytes", double(config.max_metadata_bytes()), 1024, 8192},
        Range{"transport_memory_bytes", double(config.transport_memory_bytes()), 0, 1e15},
        Range{"max_connection_age_seconds", config.max_connection_age_seconds(), 0, 2e6},
        Range{"max_connection_grace_seconds", config.max_connection_grace_seconds(), 0, 2e6},
        Range{"keepalive_seconds", config.keepalive_seconds(), 1, 2e6},
        Range{"keepalive_timeout_seconds", config.keepalive_timeout_seconds(), 1, 2e6},
        Range{"min_ping_interval_seconds", config.min_ping_interval_seconds(), 0, 2e6},
        Range{"handshake_timeout_seconds", config.handshake_timeout_seconds(), 1, 3600},
        Range{"control_rpcs_per_second", config.control_rpcs_per_second(), 0, 1e6},
        Range{"control_rpc_burst", double(config.control_rpc_burst()), 1, 1e6},
        Range{"http_port", double(config.http_port()), -1, 65535},
        Range{"keep_models", double(config.keep_models()), 0, 1 << 20},
        Range{"live_half_life", config.live_half_life(), 0, 1e12},
        Range{"live_snapshot_seconds", config.live_snapshot_seconds(), 0.1, 86400}}) {
    absl::Status status = CheckRange(range.key, range.value, range.low, range.high);
    if (!status.ok()) return status;
  }
  return CheckSecurity(config);
}

std::string MinerConfigHelp(const std::string& field) {
  static const auto* const kHelp = new std::map<std::string, std::string>{
      {"catalog", "directory of the imported catalog"},
      {"state", "directory for generations, representations and the journal"},
      {"listen", "address to listen on; port 0 picks a free one"},
      {"address_file", "file to write the bound address to, for scripts"},
      {"embedders", "embedder processes that the miner starts itself; 0: none"},
      {"embedder_threads", "threads of each of them"},
      {"embedder_device", "auto, cpu or cuda:N"},
      {"batch_threads", "threads that build batches"},
      {"cluster_threads", "threads of k-means; 0: all"},
      {"drain_seconds", "time to let streams end on SIGTERM"},
      {"max_credits", "largest credit that a stream may hold, in batches"},
      {"part_bytes", "bytes of one stream message, before a batch is split in parts"},
      {"lease_identities", "identities of one embedding lease"},
      {"lease_seconds", "time after which an embedder's lease is given to another"},
      {"max_batch_samples", "largest P * K"},
      {"http_port", "port of /metrics, /livez and /readyz; 0 picks a free one, -1: none"},
      {"log_level", "debug, info, warning or error"},
      {"log_format", "text or json"},
      {"keep_generations",
       "generations to keep besides the active, the previous and the pinned ones; 0: all"},
      {"cluster_nice", "nice value of a job's threads, 0 to 19"},
      {"recluster_every_batches", "policy: mine again after so many acknowledged batches; 0: never"},
      {"recluster_max_staleness", "policy: mine again when the model is so many steps ahead; 0: never"},
      {"recluster_min_active_share", "policy: mine again when fewer of the triplets are active; 0: never"},
      {"recluster_max_churn",
       "policy: mine again when more of a sample would be in another subspace; 0: never"},
      {"stall_seconds", "a job that makes no progress for so long is reported as stalled; 0: never"},
      {"stall_cancel", "end a stalled job as failed"},
      {"recluster_min_interval", "policy: seconds from one job to the next, at least"},
      {"recluster_max_per_day", "policy: jobs within 24 hours, at most"},
      {"tls_cert", "PEM file of the server's certificate: turns TLS on"},
      {"tls_key", "PEM file of its key"},
      {"tls_client_ca", "PEM file of who signs clients' certificates"},
      {"require_client_certificate", "refuse the handshake without a client certificate, even for health"},
      {"access_file", "file that says who may do what; needed with TLS"},
      {"insecure_listen_anywhere", "plain text beyond loopback: whoever reaches the port may do everything"},
      {"audit_log", "file for a JSON line of each control RPC and each refusal"},
      {"audit_log_bytes", "size at which it is rotated; 0: never"},
      {"audit_log_files", "rotated files that are kept"},
      {"tls_reload_seconds", "seconds between looks at the certificates"},
      {"open_metrics", "with TLS: /metrics to any address, not to loopback alone"},
      {"model_roots", "directories that models must lie in, separated by commas; empty: anywhere"},
      {"embedding_roots",
       "directories of the embeddings that `doppel clean find` may name; empty: as model_roots"},
      {"max_request_bytes", "largest message from a client"},
      {"max_streams", "open streams in total; 0: any number"},
      {"max_streams_per_client", "open streams of one caller; 0: any number"},
      {"max_streams_per_connection", "calls at once on one connection"},
      {"max_batch_bytes", "largest P * K * height * width * channels of a decoded batch"},
      {"queued_batch_bytes",
       "bytes of batches that are built or unsent, beyond which others wait; 0: any number"},
      {"max_unread_seconds", "a client that does not read for so long is cut off, if others wait for memory"},
      {"max_wait_seconds", "longest timeout of WaitOperation"},
      {"max_metadata_bytes", "largest headers of a call; above 8192 this gRPC may abort"},
      {"transport_memory_bytes", "gRPC's buffers over all connections; 0: any size"},
      {"max_connection_age_seconds", "age at which a connection is asked to go; 0: never"},
      {"max_connection_grace_seconds", "time that its calls then have left"},
      {"keepalive_seconds", "silence after which a client is pinged"},
      {"keepalive_timeout_seconds", "time that it has to answer"},
      {"min_ping_interval_seconds", "a client that pings more often is cut off"},
      {"handshake_timeout_seconds", "a connection that has not said what it wants by then is closed"},
      {"control_rpcs_per_second", "control RPCs of one caller, in the long run; 0: any number"},
      {"control_rpc_burst", "control RPCs of one caller at once"},
      {"keep_models", "published models that are kept, newest first; 0: all"},
      {"live_half_life", "steps after which a reported embedding counts half; 0: nothing is forgotten"},
      {"live_snapshot_seconds", "between snapshots of the live representations: what a crash may lose"},
  };
  const auto found = kHelp->find(field);
  return found == kHelp->end() ? "" : found->second;
}

}  // namespace doppel
