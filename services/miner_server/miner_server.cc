#include "services/miner_server/miner_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <random>
#include <thread>
#include <utility>

#include "absl/base/call_once.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/base/executor.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/base/process_environment.h"
#include "common/base/status_macros.h"
#include "common/io/file_system.h"
#include "services/miner_server/batch_core.h"
#include "services/miner_server/batch_service.h"
#include "services/miner_server/cleaning_service.h"
#include "services/miner_server/control_services.h"
#include "services/miner_server/http_endpoint.h"
#include "services/miner_server/live_services.h"
#include "services/miner_server/memory_budget.h"
#include "services/miner_server/server_metrics.h"
#include "services/miner_server/server_security.h"
#include "services/miner_server/stream_registry.h"
#include "services/miner_server/work_groups.h"
#include "services/security/server_transport.h"

namespace doppel {
namespace {

constexpr int kControlThreads = 2;
constexpr absl::Duration kWatchInterval = absl::Milliseconds(500);

std::string RandomIncarnation() {
  std::random_device device;
  return absl::StrFormat("%08x%08x", device(), device());
}

BatchLimits LimitsOf(const MinerServerOptions& options) {
  BatchLimits limits;
  limits.max_credits = options.max_credits;
  limits.max_batch_samples = options.max_batch_samples;
  limits.part_bytes = options.part_bytes;
  limits.borrow_bytes = options.borrow_bytes;
  limits.decode_threads = options.batch_threads;
  limits.max_batch_bytes = options.limits.max_batch_bytes;
  return limits;
}

// gRPC keeps these two in process-wide switches.
void EnableHealthAndReflection() {
  static absl::once_flag once;
  absl::call_once(once, [] {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  });
}

void ConfigureThreads(grpc::ServerBuilder& builder) {
  // Only reflection is on the synchronous API.
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 2);
}

absl::StatusOr<std::string> HostOf(const std::string& listen) {
  const size_t colon = listen.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == listen.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("listen: \"", listen, "\" is not HOST:PORT, for example 127.0.0.1:50051"));
  }
  return listen.substr(0, colon);
}

std::string WithoutBrackets(std::string host) {
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') return host.substr(1, host.size() - 2);
  return host;
}

class MinerServerImpl final : public MinerServer {
 public:
  MinerServerImpl(std::shared_ptr<Miner> miner, MinerServerOptions options)
      : options_(std::move(options)),
        incarnation_(RandomIncarnation()),
        miner_(std::move(miner)),
        metrics_(metrics_registry_),
        queued_(options_.limits.queued_batch_bytes),
        streams_({options_.limits.max_streams, options_.limits.max_streams_per_client}),
        steering_(PosixFileSystem(), options_.steering),
        core_(miner_, LimitsOf(options_), &steering_),
        batch_executor_(std::max(1, options_.batch_threads)),
        decode_executor_(std::max(1, options_.batch_threads)),
        control_executor_(MakeThreadPool(kControlThreads)),
        work_groups_(PosixFileSystem(), options_.work_groups, control_executor_.get()),
        batches_({&core_, &batch_executor_, &decode_executor_, &work_groups_, &streams_, &metrics_,
                  incarnation_, &queued_, absl::Seconds(options_.limits.max_unread_seconds),
                  [this](const grpc::ServerContextBase& context) {
                    return ClientOf(context, security_->gate());
                  }}),
        mining_(Control()),
        embedding_(Control()),
        models_(Control()),
        reports_(Control(), &steering_) {}

  ~MinerServerImpl() override { Shutdown(absl::ZeroDuration()); }

  absl::Status Listen() {
    ASSIGN_OR_RETURN(const std::string host, HostOf(options_.listen));
    ASSIGN_OR_RETURN(cleaning_, CleaningServiceImpl::Make(miner_, control_executor_.get(), PosixFileSystem(),
                                                          options_.cleaning, options_.embedding_roots));
    EnableHealthAndReflection();
    grpc::ServerBuilder builder;
    ASSIGN_OR_RETURN(security_, ServerSecurity::Open(options_));
    ConfigureThreads(builder);
    int port = 0;
    security_->Configure(options_, builder, &port);
    builder.RegisterService(&batches_);
    builder.RegisterService(&mining_);
    builder.RegisterService(&embedding_);
    builder.RegisterService(cleaning_.get());
    builder.RegisterService(&models_);
    builder.RegisterService(&reports_);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port == 0) {
      return absl::UnavailableError(
          absl::StrCat("cannot listen on ", options_.listen,
                       ": is another server running there? choose another --listen"));
    }
    address_ = absl::StrCat(host, ":", port);
    SetServing(true);
    watchdog_ = std::thread([this] { Watch(); });
    if (options_.http_port >= 0) {
      HttpEndpoint::Routes routes;
      routes.metrics = [this] { return ExposeMetrics(); };
      routes.metrics_for = [this](const std::string& address) {
        return !options_.tls.enabled() || options_.open_metrics || address == "127.0.0.1" || address == "::1";
      };
      routes.ready = [this] { return !streams_.draining(); };
      ASSIGN_OR_RETURN(http_,
                       HttpEndpoint::Start(WithoutBrackets(host), options_.http_port, std::move(routes)));
      http_port_ = http_->port();
    }
    return absl::OkStatus();
  }

  const std::string& address() const override { return address_; }
  int http_port() const override { return http_port_; }
  const std::string& incarnation() const override { return incarnation_; }

  void Drain() override {
    if (server_ != nullptr) SetServing(false);
    streams_.Drain();
  }

  void Shutdown(absl::Duration grace) override {
    absl::MutexLock lock(&shutdown_mutex_);
    if (stopped_) return;
    stopped_ = true;
    {
      absl::MutexLock watch(&watch_mutex_);
      watching_ = false;
    }
    if (watchdog_.joinable()) watchdog_.join();
    Drain();
    if (grace > absl::ZeroDuration() && !streams_.WaitUntilEmpty(grace)) {
      DOPPEL_LOG(kWarning, streams_.open(), " streams did not end within ", absl::FormatDuration(grace),
                 " (a client that does not read?): cancelled");
    }
    if (cleaning_ != nullptr) cleaning_->Stop();
    if (server_ != nullptr) {
      const absl::Duration rest =
          grace > absl::ZeroDuration() ? absl::Milliseconds(500) : absl::ZeroDuration();
      server_->Shutdown(absl::ToChronoTime(absl::Now() + rest));
      server_->Wait();
    }
    queued_.Close();
    http_.reset();
  }

 private:
  ControlEnvironment Control() {
    return {miner_,
            control_executor_.get(),
            &streams_,
            &metrics_,
            incarnation_,
            absl::Now(),
            options_.model_roots,
            options_.limits.max_wait_seconds};
  }

  void SetServing(bool serving) {
    grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService();
    if (health == nullptr) return;
    for (const char* service : kMinerServices) health->SetServingStatus(service, serving);
    health->SetServingStatus("", serving);
    if (serving) health->SetServingStatus(kJobsHealth, true);
  }

  // Looks now and then at what nobody else would notice. A stalled job harms no stream: health has a name of
  // its own for it.
  void Watch() {
    grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService();
    bool moving = true;
    while (true) {
      const bool stalled = !miner_->StalledOperation().empty();
      if (health != nullptr && stalled == moving) health->SetServingStatus(kJobsHealth, !stalled);
      moving = !stalled;
      metrics_.stalled.Set(stalled ? 1 : 0);
      queued_.AskForRoom();
      const auto over = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(watch_mutex_) { return !watching_; };
      absl::MutexLock lock(&watch_mutex_);
      if (watch_mutex_.AwaitWithTimeout(absl::Condition(&over), kWatchInterval)) return;
    }
  }

  std::string ExposeMetrics() {
    const std::shared_ptr<const Generation> active = miner_->ActiveGeneration();
    metrics_.generation.Set(active == nullptr ? 0 : static_cast<double>(active->number()));
    metrics_.heap_bytes.Set(static_cast<double>(HeapInUse()));
    metrics_.queued_bytes.Set(static_cast<double>(queued_.held()));
    return metrics_registry_.Expose();
  }

  const MinerServerOptions options_;
  const std::string incarnation_;
  const std::shared_ptr<Miner> miner_;
  MetricsRegistry metrics_registry_;
  ServerMetrics metrics_;
  MemoryBudget queued_;
  StreamRegistry streams_;
  SteeredPlans steering_;
  BatchCore core_;
  // Destroyed before what their work touches, and after the server.
  FairExecutor batch_executor_;
  FairExecutor decode_executor_;
  const std::unique_ptr<Executor> control_executor_;
  WorkGroups work_groups_;
  BatchServiceImpl batches_;
  MiningServiceImpl mining_;
  EmbeddingServiceImpl embedding_;
  ModelServiceImpl models_;
  ReportServiceImpl reports_;
  std::unique_ptr<CleaningServiceImpl> cleaning_;
  std::unique_ptr<ServerSecurity> security_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<HttpEndpoint> http_;
  std::string address_;
  int http_port_ = 0;
  absl::Mutex shutdown_mutex_;
  bool stopped_ ABSL_GUARDED_BY(shutdown_mutex_) = false;
  absl::Mutex watch_mutex_;
  bool watching_ ABSL_GUARDED_BY(watch_mutex_) = true;
  std::thread watchdog_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<MinerServer>> MinerServer::Start(std::shared_ptr<Miner> miner,
                                                                MinerServerOptions options) {
  auto server = std::make_unique<MinerServerImpl>(std::move(miner), std::move(options));
  RETURN_IF_ERROR(server->Listen());
  return std::unique_ptr<MinerServer>(std::move(server));
}

}  // namespace doppel
