// doppel-embedder: leases ranges of a catalog from a miner, embeds them, commits the representations.
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/base/log.h"
#include "common/base/process_environment.h"
#include "common/catalog/catalog.h"
#include "common/model/embedding_model.h"
#include "common/net/client_credentials.h"
#include "services/embedder/embed_worker.h"
#include "services/embedder/lease_service.h"
#include "services/embedder/model_cache.h"
#include "services/embedder/remote_range.h"

namespace {

struct Flags {
  std::string miner;
  doppel::ClientSecurity security;
  std::string device = "auto";
  int threads = 2;
  int batch_size = 192;
  std::string name;
  double grace_seconds = 5;
  pid_t exit_with_parent = 0;
  std::string log_level = "info";
  std::string log_format = "text";
  bool remote = false;
  std::string cache;
};

std::string DefaultCache() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache != '\0')
    return absl::StrCat(cache, "/doppel/models");
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0')
    return absl::StrCat(home, "/.cache/doppel/models");
  return absl::StrCat("/tmp/doppel-", getuid(), "/models");
}

std::string DefaultName() {
  char host[256] = "";
  gethostname(host, sizeof(host) - 1);
  return absl::StrCat(host, "/", getpid());
}

// Where the handler writes to. Blocking the signals and sigwait would not do: LibTorch's and OpenBLAS'
// threads start before main, with the signals open, and would take them with the default action.
int stop_pipe[2] = {-1, -1};

void OnStopSignal(int signal) {
  const auto byte = static_cast<char>(signal);
  (void)!write(stop_pipe[1], &byte, 1);
}

bool InstallStopHandlers() {
  if (pipe(stop_pipe) != 0) return false;
  struct sigaction action = {};
  action.sa_handler = OnStopSignal;
  action.sa_flags = SA_RESTART;
  return sigaction(SIGTERM, &action, nullptr) == 0 && sigaction(SIGINT, &action, nullptr) == 0;
}

// The first signal ends the work in an orderly way, the second at once; a zero byte ends the wait.
void WaitForSignals(doppel::EmbedWorker& worker) {
  char signal = 0;
  for (bool stopping = false; read(stop_pipe[0], &signal, 1) == 1 && signal != 0; stopping = true) {
    if (stopping) _exit(128 + signal);
    worker.Stop();
  }
}

int Run(const Flags& flags) {
  if (!InstallStopHandlers()) {
    std::fprintf(stderr, "doppel-embedder: cannot install signal handlers\n");
    return 1;
  }
  if (flags.exit_with_parent != 0) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    // Loading LibTorch takes a while: the parent may be gone already.
    if (getppid() != flags.exit_with_parent) return 0;
  }

  auto service = doppel::MakeGrpcLeaseService(flags.miner, absl::Seconds(20), flags.security);
  doppel::EmbedWorkerOptions options;
  options.name = flags.name.empty() ? DefaultName() : flags.name;
  options.threads = flags.threads;
  options.batch_size = flags.batch_size;
  options.grace = absl::Seconds(flags.grace_seconds);
  options.open_catalog = [](const std::string& path) { return doppel::Catalog::Open(path); };
  options.open_model = [&flags](const std::string& path) {
    return doppel::LoadEmbeddingModel(path, flags.device);
  };
  const auto ranges = doppel::MakeGrpcRangeSource(flags.miner, flags.security);
  const auto models = doppel::MakeGrpcModelClient(flags.miner, flags.security);
  doppel::ModelCache::Options cached;
  cached.directory = flags.cache;
  cached.process = absl::StrCat(getpid());
  doppel::ModelCache cache(*models, cached);
  options.remote = flags.remote;
  options.fetch_range = [&ranges](const doppel::v1::EmbeddingLease& lease) {
    return doppel::OpenRemoteRange(*ranges, lease, doppel::RemoteRangeOptions());
  };
  options.fetch_model = [&cache](const doppel::v1::EmbeddingLease& lease,
                                 const std::function<absl::Status()>& keep_alive) {
    return cache.Get(lease.model_fingerprint(), keep_alive);
  };
  doppel::EmbedWorker worker(options, *service);

  std::thread waiter([&worker] { WaitForSignals(worker); });
  DOPPEL_LOG(kInfo, "embedder ", options.name, " takes work from ", flags.miner);
  const absl::Status status = worker.Run();
  OnStopSignal(0);
  waiter.join();

  const auto counters = worker.counters();
  DOPPEL_LOG(kInfo, "embedder ends: ", counters.committed_ranges, " ranges, ", counters.committed_samples,
             " samples, ", counters.failed_samples, " failed, ", counters.dropped_ranges, " ranges dropped");
  if (status.ok()) return 0;
  std::fprintf(stderr, "doppel-embedder: %s\n", std::string(status.message()).c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  doppel::RestartWithComputeEnvironment(argv);
  doppel::KeepFreedMemory();
  Flags flags;
  flags.cache = DefaultCache();
  CLI::App app("Leases ranges of a catalog from a miner, embeds them and commits the representations.",
               "doppel-embedder");
  app.add_option("--miner", flags.miner, "address of the miner, host:port")
      ->required()
      ->envname("DOPPEL_EMBEDDER_MINER");
  doppel::AddClientSecurityFlags(app, &flags.security);
  app.add_option("--device", flags.device, "auto, cpu or cuda:N")
      ->capture_default_str()
      ->envname("DOPPEL_EMBEDDER_DEVICE");
  app.add_option("--threads", flags.threads, "threads; each embeds batches of its own")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024))
      ->envname("DOPPEL_EMBEDDER_THREADS");
  app.add_option("--batch-size", flags.batch_size, "images per batch")
      ->capture_default_str()
      ->check(CLI::Range(1, 65536))
      ->envname("DOPPEL_EMBEDDER_BATCH_SIZE");
  app.add_option("--name", flags.name, "name that the miner shows (default: host/pid)");
  app.add_option("--grace-seconds", flags.grace_seconds, "time to finish leased work after SIGTERM")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  app.add_flag("--remote", flags.remote,
               "fetch images and models from the miner, even if their paths can be read here")
      ->envname("DOPPEL_EMBEDDER_REMOTE");
  app.add_option("--cache", flags.cache, "folder for models that come from the miner")
      ->capture_default_str()
      ->envname("DOPPEL_EMBEDDER_CACHE");
  app.add_option("--exit-with-parent", flags.exit_with_parent,
                 "process id of whoever starts this one: end when that ends");
  app.add_option("--log-level", flags.log_level, "debug, info, warning or error")->capture_default_str();
  app.add_option("--log-format", flags.log_format, "text or json")->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : 2;
  }
  const absl::Status logging = doppel::SetupLogging("doppel-embedder", flags.log_level, flags.log_format);
  if (!logging.ok()) {
    std::fprintf(stderr, "doppel-embedder: %s\n", std::string(logging.message()).c_str());
    return 2;
  }
  const absl::Status security = doppel::CheckClientSecurity(flags.security);
  if (!security.ok()) {
    std::fprintf(stderr, "doppel-embedder: %s\n", std::string(security.message()).c_str());
    return 2;
  }
  return Run(flags);
}
