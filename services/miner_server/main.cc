// doppel-miner: serves batches of look-alike identities, and makes the generations they come from.
#include <cblas.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/base/log.h"
#include "common/base/process_environment.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog.h"
#include "common/config/config.h"
#include "common/io/atomic_file.h"
#include "common/io/file_system.h"
#include "miner/miner.h"
#include "services/miner_server/embedder_supervisor.h"
#include "services/miner_server/miner_config.h"
#include "services/miner_server/miner_server.h"

namespace doppel {
namespace {

struct Flags {
  std::string config_file;
  std::string embedder_binary;
  std::map<std::string, std::string> fields;  // by name of the proto's field, all of them; empty: not given
};

std::string OwnPath() {
  char path[PATH_MAX + 1] = "";
  const ssize_t size = readlink("/proc/self/exe", path, PATH_MAX);
  return size > 0 ? std::string(path, static_cast<size_t>(size)) : "";
}

std::vector<std::string> Environment() {
  std::vector<std::string> entries;
  for (char** entry = environ; *entry != nullptr; ++entry) entries.emplace_back(*entry);
  return entries;
}

void AddFlags(CLI::App& command, Flags& flags) {
  command.add_option("--config", flags.config_file, "YAML file with the same keys, spelled with underscores");
  command.add_option("--embedder-binary", flags.embedder_binary,
                     "default: doppel-embedder beside this binary");
  const auto* descriptor = v1::MinerConfig::descriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const std::string name = descriptor->field(i)->name();
    const std::string flag = absl::StrCat("--", absl::StrReplaceAll(name, {{"_", "-"}}));
    if (descriptor->field(i)->type() == google::protobuf::FieldDescriptor::TYPE_BOOL) {
      command.add_flag(flag, flags.fields[name], MinerConfigHelp(name));
    } else {
      command.add_option(flag, flags.fields[name], MinerConfigHelp(name));
    }
  }
}

absl::StatusOr<v1::MinerConfig> ReadConfig(const Flags& flags, const CLI::App& command) {
  v1::MinerConfig config = DefaultMinerConfig();
  ConfigOverrides overrides;
  for (const auto& [name, value] : flags.fields) {
    if (command.count(absl::StrCat("--", absl::StrReplaceAll(name, {{"_", "-"}}))) > 0) {
      overrides.emplace_back(name, value);
    }
  }
  ConfigEnvironment environment;
  environment.prefix = "DOPPEL_MINER_";
  environment.lookup = [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    return value == nullptr ? std::nullopt : std::optional<std::string>(value);
  };
  RETURN_IF_ERROR(LoadConfig(flags.config_file, overrides, environment, &config,
                             [&config] { return ValidateMinerConfig(config); }));
  return config;
}

absl::StatusOr<std::shared_ptr<Miner>> OpenMiner(const v1::MinerConfig& config) {
  MinerOptions options;
  options.reopen_catalog = [path = config.catalog()] { return Catalog::Open(path); };
  ASSIGN_OR_RETURN(options.catalog, options.reopen_catalog());
  options.state_directory = config.state();
  options.cluster_threads = static_cast<int>(config.cluster_threads());
  options.lease_identities = config.lease_identities();
  options.lease_duration = absl::Seconds(config.lease_seconds());
  options.keep_generations = config.keep_generations();
  options.cluster_nice = static_cast<int>(config.cluster_nice());
  options.policy.set_every_batches(config.recluster_every_batches());
  options.policy.set_max_staleness_steps(config.recluster_max_staleness());
  options.policy.set_min_active_share(config.recluster_min_active_share());
  options.policy.set_min_interval_seconds(config.recluster_min_interval());
  options.policy.set_max_per_day(config.recluster_max_per_day());
  options.policy.set_max_churn(config.recluster_max_churn());
  options.stall_after = absl::Seconds(config.stall_seconds());
  options.stall_cancel = config.stall_cancel();
  options.keep_models = config.keep_models();
  options.live_half_life = config.live_half_life();
  options.live_snapshot_interval = absl::Seconds(config.live_snapshot_seconds());
  // A wrong border between two identities would be taught, not noticed.
  RETURN_IF_ERROR(options.catalog->Verify());
  ASSIGN_OR_RETURN(std::unique_ptr<Miner> miner, Miner::Open(std::move(options)));
  return std::shared_ptr<Miner>(std::move(miner));
}

ServerLimits Limits(const v1::MinerConfig& config) {
  ServerLimits limits;
  limits.max_request_bytes = config.max_request_bytes();
  limits.max_streams = config.max_streams();
  limits.max_streams_per_client = config.max_streams_per_client();
  limits.max_streams_per_connection = config.max_streams_per_connection();
  limits.max_batch_bytes = config.max_batch_bytes();
  limits.queued_batch_bytes = config.queued_batch_bytes();
  limits.max_unread_seconds = config.max_unread_seconds();
  limits.max_wait_seconds = config.max_wait_seconds();
  limits.max_metadata_bytes = config.max_metadata_bytes();
  limits.transport_memory_bytes = config.transport_memory_bytes();
  limits.max_connection_age_seconds = config.max_connection_age_seconds();
  limits.max_connection_grace_seconds = config.max_connection_grace_seconds();
  limits.keepalive_seconds = config.keepalive_seconds();
  limits.keepalive_timeout_seconds = config.keepalive_timeout_seconds();
  limits.min_ping_interval_seconds = config.min_ping_interval_seconds();
  limits.handshake_timeout_seconds = config.handshake_timeout_seconds();
  limits.control_rpcs_per_second = config.control_rpcs_per_second();
  limits.control_rpc_burst = config.control_rpc_burst();
  return limits;
}

MinerServerOptions ServerOptions(const v1::MinerConfig& config) {
  MinerServerOptions options;
  options.listen = config.listen();
  options.batch_threads = static_cast<int>(config.batch_threads());
  options.max_credits = config.max_credits();
  options.max_batch_samples = config.max_batch_samples();
  options.part_bytes = config.part_bytes();
  options.http_port = config.http_port();
  options.work_groups = config.state() + "/work_groups";
  options.steering = config.state() + "/steering";
  options.limits = Limits(config);
  options.tls.cert = config.tls_cert();
  options.tls.key = config.tls_key();
  options.tls.client_ca = config.tls_client_ca();
  options.tls.require_client_certificate = config.require_client_certificate();
  options.tls.reload_seconds = config.tls_reload_seconds();
  options.access_file = config.access_file();
  options.insecure_listen_anywhere = config.insecure_listen_anywhere();
  options.audit.path = config.audit_log();
  options.audit.max_bytes = config.audit_log_bytes();
  options.audit.files = config.audit_log_files();
  options.open_metrics = config.open_metrics();
  options.model_roots.assign(config.model_roots().begin(), config.model_roots().end());
  const auto& embeddings = config.embedding_roots().empty() ? config.model_roots() : config.embedding_roots();
  options.embedding_roots.assign(embeddings.begin(), embeddings.end());
  options.cleaning = config.state() + "/cleaning.rec";
  return options;
}

// A directory that nobody else may enter, for the socket that embedders of this process come in by: they
// share neither certificate nor token. Removed with the object.
class PrivateDirectory {
 public:
  static absl::StatusOr<std::unique_ptr<PrivateDirectory>> Make() {
    char path[] = "/tmp/doppel-miner.XXXXXX";
    if (mkdtemp(path) == nullptr) return absl::UnavailableError("cannot make a directory in /tmp");
    return std::unique_ptr<PrivateDirectory>(new PrivateDirectory(path));
  }
  ~PrivateDirectory() {
    const absl::Status status = PosixFileSystem().RemoveRecursively(path_);
    if (!status.ok()) DOPPEL_LOG(kWarning, status.message());
  }
  std::string socket() const { return path_ + "/miner.sock"; }

 private:
  explicit PrivateDirectory(std::string path) : path_(std::move(path)) {}
  const std::string path_;
};

// How children on this machine reach an address that may stand for all interfaces.
std::string LocalAddress(const std::string& address) {
  const size_t colon = address.rfind(':');
  const std::string host = address.substr(0, colon);
  if (host == "0.0.0.0" || host == "[::]" || host == "*")
    return absl::StrCat("127.0.0.1", address.substr(colon));
  return address;
}

absl::StatusOr<std::unique_ptr<EmbedderSupervisor>> StartEmbedders(const v1::MinerConfig& config,
                                                                   const Flags& flags,
                                                                   const std::string& address) {
  if (config.embedders() == 0) return std::unique_ptr<EmbedderSupervisor>();
  std::string binary = flags.embedder_binary;
  if (binary.empty()) {
    const std::string own = OwnPath();
    binary = own.substr(0, own.rfind('/') + 1) + "doppel-embedder";
  }
  SupervisorOptions options;
  options.command = {binary,
                     "--miner",
                     LocalAddress(address),
                     "--threads",
                     absl::StrCat(config.embedder_threads()),
                     "--device",
                     config.embedder_device(),
                     "--log-level",
                     config.log_level(),
                     "--log-format",
                     config.log_format(),
                     "--exit-with-parent",
                     absl::StrCat(getpid())};
  options.environment = WithPassiveWaiting(Environment());
  options.processes = static_cast<int>(config.embedders());
  return EmbedderSupervisor::Start(std::move(options));
}

sigset_t StopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

void WaitForStopSignal() {
  const sigset_t signals = StopSignals();
  int signal = 0;
  sigwait(&signals, &signal);
  DOPPEL_LOG(kInfo, "signal ", signal, ": draining; once more to stop at once");
  // A second one does not wait for anybody.
  std::thread([signals] {
    int again = 0;
    sigwait(&signals, &again);
    _exit(128 + again);
  }).detach();
}

absl::Status Serve(const v1::MinerConfig& config, const Flags& flags) {
  // Before any thread is made: all of them inherit the mask.
  const sigset_t signals = StopSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  FileSystem& fs = PosixFileSystem();
  const std::string& address_file = config.address_file();
  // A stale one would send scripts to the wrong server.
  if (!address_file.empty() && fs.Exists(address_file)) RETURN_IF_ERROR(fs.Remove(address_file));

  DOPPEL_LOG(kInfo, "BLAS: ", openblas_get_config());
  ASSIGN_OR_RETURN(const std::shared_ptr<Miner> miner, OpenMiner(config));
  MinerServerOptions options = ServerOptions(config);
  std::unique_ptr<PrivateDirectory> directory;
  if (options.tls.enabled() && config.embedders() > 0) {
    ASSIGN_OR_RETURN(directory, PrivateDirectory::Make());
    options.local_socket = directory->socket();
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<MinerServer> server, MinerServer::Start(miner, options));
  ASSIGN_OR_RETURN(std::unique_ptr<EmbedderSupervisor> embedders,
                   StartEmbedders(config, flags,
                                  directory == nullptr ? server->address() : "unix:" + options.local_socket));

  if (server->http_port() > 0) std::printf("metrics on http port %d\n", server->http_port());
  std::printf("serving on %s\n", server->address().c_str());
  std::fflush(stdout);
  if (!address_file.empty()) RETURN_IF_ERROR(WriteFileAtomically(fs, address_file, server->address() + "\n"));

  WaitForStopSignal();
  server->Drain();
  // While the server still takes what they have finished.
  embedders.reset();
  server->Shutdown(absl::Seconds(config.drain_seconds()));
  if (!address_file.empty() && fs.Exists(address_file)) RETURN_IF_ERROR(fs.Remove(address_file));
  DOPPEL_LOG(kInfo, "stopped");
  return absl::OkStatus();
}

int Fail(const absl::Status& status, int code) {
  std::fprintf(stderr, "doppel-miner: %s\n", std::string(status.message()).c_str());
  return code;
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app("Mines look-alike identities and streams them as batches.", "doppel-miner");
  app.set_version_flag("--version", DOPPEL_VERSION);
  app.require_subcommand(1);
  CLI::App* serve = app.add_subcommand("serve", "Serve until SIGTERM or SIGINT");
  AddFlags(*serve, flags);
  serve->footer(
      "Examples:\n"
      "  doppel-miner serve --catalog faces.catalog --state faces.state\n"
      "  doppel-miner serve --catalog faces.catalog --state faces.state --listen 127.0.0.1:50052 --http-port "
      "9090\n"
      "  doppel-miner serve --config /etc/doppel/miner.yaml --embedders 0\n\n"
      "Without TLS it listens on loopback addresses only. For a test with TLS, roles and an audit log:\n"
      "  deploy/make-certs.sh pki       # a CA, a server, a client for each role, pki/access\n"
      "  doppel-miner serve --catalog faces.catalog --state faces.state --listen 0.0.0.0:50051 \\\n"
      "    --tls-cert pki/server.pem --tls-key pki/server.key --tls-client-ca pki/ca.pem \\\n"
      "    --access-file pki/access --audit-log audit.jsonl\n"
      "  doppel status --tls-ca pki/ca.pem --tls-cert pki/viewer.pem --tls-key pki/viewer.key\n\n"
      "Every flag is also a key of the YAML file and an environment variable DOPPEL_MINER_<NAME>.\n"
      "A flag goes before the environment, that before the file, and the file before the default.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  absl::StatusOr<v1::MinerConfig> config = ReadConfig(flags, *serve);
  if (!config.ok()) return Fail(config.status(), 2);
  doppel::RestartWithComputeEnvironment(argv);
  doppel::KeepFreedMessages();
  const absl::Status logging = SetupLogging("doppel-miner", config->log_level(), config->log_format());
  if (!logging.ok()) return Fail(logging, 2);
  const absl::Status status = Serve(*config, flags);
  return status.ok() ? 0 : Fail(status, 1);
}

}  // namespace
}  // namespace doppel

int main(int argc, char** argv) { return doppel::Main(argc, argv); }
