#include <grpcpp/alarm.h>

#include <algorithm>
#include <chrono>
#include <deque>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/status_macros.h"
#include "miner/generation/generation_diff.h"
#include "miner/generation/lookup.h"
#include "miner/models/model_store.h"
#include "services/miner_server/control_services.h"
#include "services/miner_server/unary_call.h"
#include "services/security/path_roots.h"

namespace doppel {
namespace {

constexpr absl::Duration kWaitTick = absl::Milliseconds(50);
constexpr uint32_t kDefaultDiffLimit = 20;

// Models of the store go by name; directories must lie where they may.
absl::Status ConfineModel(const std::vector<std::string>& roots, v1::ReclusterRequest* request) {
  if (request->model_path().empty() || ModelStore::IsName(request->model_path())) return absl::OkStatus();
  ASSIGN_OR_RETURN(*request->mutable_model_path(),
                   ConfinePath(request->model_path(), roots, "model_path", "model_roots"));
  return absl::OkStatus();
}

// One WaitOperation: looks, and sleeps on a timer of gRPC's in between. Owned by the call.
class WaitReactor final : public grpc::ServerUnaryReactor {
 public:
  WaitReactor(const ControlEnvironment& environment, grpc::CallbackServerContext* context,
              const v1::WaitOperationRequest& request, v1::WaitOperationResponse* response)
      : environment_(environment),
        context_(context),
        id_(request.id()),
        deadline_(absl::Now() + absl::Seconds(std::max(
                                    0.0, std::min(request.timeout_seconds(), environment.max_wait_seconds)))),
        response_(response) {
    ScheduleLook();
  }
  void OnDone() override { delete this; }

 private:
  void ScheduleLook() {
    environment_.executor->Schedule([this] { Look(); });
  }

  void Look() {
    const absl::Status status =
        StoreResult(environment_.miner->GetOperation(id_), response_->mutable_operation());
    if (!status.ok()) return Finish(ToGrpc(status));
    const absl::Time now = absl::Now();
    const v1::Operation::State state = response_->operation().state();
    const bool over = state != v1::Operation::STATE_RUNNING && state != v1::Operation::STATE_QUEUED;
    if (over || now >= deadline_) {
      return Finish(grpc::Status::OK);
    }
    if (context_->IsCancelled()) return Finish(grpc::Status::CANCELLED);
    if (environment_.registry->draining()) {
      return Finish(
          grpc::Status(grpc::StatusCode::UNAVAILABLE, "draining: the operation goes on after the restart"));
    }
    // A fresh one each time: this may be running inside the old one's callback.
    alarm_ = std::make_unique<grpc::Alarm>();
    alarm_->Set(
        std::chrono::system_clock::now() + absl::ToChronoMicroseconds(std::min(kWaitTick, deadline_ - now)),
        [this](bool) { ScheduleLook(); });
  }

  const ControlEnvironment& environment_;
  grpc::CallbackServerContext* const context_;
  const std::string id_;
  const absl::Time deadline_;
  v1::WaitOperationResponse* const response_;
  std::unique_ptr<grpc::Alarm> alarm_;
};

// One Watch: sends what has happened, then sleeps on a timer of gRPC's. Owned by the call.
class WatchReactor final : public grpc::ServerWriteReactor<v1::WatchResponse> {
 public:
  WatchReactor(const ControlEnvironment& environment, grpc::CallbackServerContext* context,
               const v1::WatchRequest& request)
      : environment_(environment), context_(context), after_(request.after()) {
    // So that a client learns at once that somebody is there.
    StartSendInitialMetadata();
    ScheduleLook();
  }
  void OnDone() override { delete this; }
  void OnWriteDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::CANCELLED);
    ScheduleLook();
  }

 private:
  void ScheduleLook() {
    environment_.executor->Schedule([this] { Look(); });
  }

  void Look() {
    if (context_->IsCancelled()) return Finish(grpc::Status::CANCELLED);
    if (pending_.empty()) Gather();
    if (!pending_.empty()) {
      sent_ = std::move(pending_.front());
      pending_.pop_front();
      return StartWrite(&sent_);
    }
    if (environment_.registry->draining()) {
      return Finish(grpc::Status(grpc::StatusCode::UNAVAILABLE, "draining: watch again after the restart"));
    }
    alarm_ = std::make_unique<grpc::Alarm>();
    alarm_->Set(std::chrono::system_clock::now() + absl::ToChronoMicroseconds(kWaitTick),
                [this](bool) { ScheduleLook(); });
  }

  void Gather() {
    const EventLog& events = environment_.miner->events();
    if (!began_) {
      began_ = true;
      if (after_ == 0) after_ = events.last();
      for (const v1::Operation& operation : environment_.miner->ListOperations()) Follow(operation);
    }
    for (v1::WatchResponse& event : events.After(after_)) {
      after_ = event.sequence();
      if (event.has_operation()) Follow(event.operation());
      pending_.push_back(std::move(event));
    }
    if (pending_.empty() && !running_.empty()) GatherProgress();
  }

  void Follow(const v1::Operation& operation) {
    if (operation.state() == v1::Operation::STATE_RUNNING) {
      running_ = operation.id();
    } else if (operation.id() == running_) {
      running_.clear();
    }
  }

  void GatherProgress() {
    absl::StatusOr<v1::Operation> operation = environment_.miner->GetOperation(running_);
    // Its end comes as an event.
    if (!operation.ok() || operation->state() != v1::Operation::STATE_RUNNING) return;
    const std::string now = absl::StrCat(operation->id(), " ", operation->phase(), " ", operation->done());
    if (now == progress_) return;
    progress_ = now;
    v1::WatchResponse event;
    event.set_sequence(after_);
    event.set_time(absl::FormatTime("%Y-%m-%d%ET%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone()));
    *event.mutable_operation() = *std::move(operation);
    pending_.push_back(std::move(event));
  }

  const ControlEnvironment& environment_;
  grpc::CallbackServerContext* const context_;
  uint64_t after_;
  bool began_ = false;
  std::string running_;
  std::string progress_;  // as it was sent last
  std::deque<v1::WatchResponse> pending_;
  v1::WatchResponse sent_;
  std::unique_ptr<grpc::Alarm> alarm_;
};

}  // namespace

MiningServiceImpl::MiningServiceImpl(ControlEnvironment environment) : environment_(std::move(environment)) {
  environment_.miner->SetTrainingSource([metrics = environment_.metrics, live = environment_.miner->live()] {
    TrainingFacts facts;
    facts.batches_acknowledged = static_cast<uint64_t>(metrics->batches_acknowledged.Value());
    if (live == nullptr) return facts;
    const RunningMeanManager::Training training = live->DescribeTraining();
    facts.model_step = training.model_step;
    facts.active_share = training.active_share;
    facts.generation = training.generation;
    return facts;
  });
}

MiningServiceImpl::~MiningServiceImpl() { environment_.miner->SetTrainingSource(nullptr); }

absl::Status MiningServiceImpl::FillDescription(v1::DescribeResponse* response) const {
  const Miner& miner = *environment_.miner;
  const std::shared_ptr<const Catalog> catalog = miner.catalog();
  response->set_version(DOPPEL_VERSION);
  response->set_incarnation(environment_.incarnation);
  response->set_catalog_path(catalog->directory());
  response->set_catalog_fingerprint(catalog->fingerprint());
  response->set_identities(catalog->num_identities());
  response->set_samples(catalog->num_samples());
  for (const CatalogSplitInfo& split : catalog->splits()) {
    v1::SplitInfo* info = response->add_splits();
    info->set_name(split.name);
    info->set_identities(split.identities);
    info->set_samples(split.samples);
  }
  const std::shared_ptr<const Generation> active = miner.ActiveGeneration();
  response->set_active_generation(active == nullptr ? 0 : active->number());
  for (v1::StreamInfo& info : environment_.registry->Describe()) *response->add_streams() = std::move(info);
  response->set_open_streams(static_cast<uint32_t>(response->streams_size()));
  response->set_batches_sent(static_cast<uint64_t>(environment_.metrics->batches_sent.Value()));
  response->set_batches_acknowledged(
      static_cast<uint64_t>(environment_.metrics->batches_acknowledged.Value()));
  response->set_bytes_sent(static_cast<uint64_t>(environment_.metrics->bytes_sent.Value()));
  response->set_uptime_seconds(absl::ToDoubleSeconds(absl::Now() - environment_.started));
  response->set_stalled_operation(miner.StalledOperation());
  for (const v1::Operation& operation : miner.ListOperations()) {
    if (operation.state() == v1::Operation::STATE_RUNNING) response->set_running_operation(operation.id());
  }
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* MiningServiceImpl::Describe(grpc::CallbackServerContext* context,
                                                      const v1::DescribeRequest*,
                                                      v1::DescribeResponse* response) {
  return RunCall(*environment_.executor, context, [this, response] { return FillDescription(response); });
}

grpc::ServerUnaryReactor* MiningServiceImpl::Recluster(grpc::CallbackServerContext* context,
                                                       const v1::ReclusterRequest* request,
                                                       v1::ReclusterResponse* response) {
  return RunCall(*environment_.executor, context, [this, request, response]() -> absl::Status {
    v1::ReclusterRequest confined = *request;
    RETURN_IF_ERROR(ConfineModel(environment_.model_roots, &confined));
    return StoreResult(environment_.miner->Recluster(confined), response->mutable_operation());
  });
}

grpc::ServerUnaryReactor* MiningServiceImpl::GetOperation(grpc::CallbackServerContext* context,
                                                          const v1::GetOperationRequest* request,
                                                          v1::GetOperationResponse* response) {
  return RunCall(*environment_.executor, context, [this, request, response] {
    return StoreResult(environment_.miner->GetOperation(request->id()), response->mutable_operation());
  });
}

grpc::ServerUnaryReactor* MiningServiceImpl::WaitOperation(grpc::CallbackServerContext* context,
                                                           const v1::WaitOperationRequest* request,
                                                           v1::WaitOperationResponse* response) {
  if (!(request->timeout_seconds() <= environment_.max_wait_seconds)) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(ToGrpc(absl::InvalidArgumentError(
        absl::StrCat("timeout_seconds: ", request->timeout_seconds(),
                     " is more than this server's max_wait_seconds = ", environment_.max_wait_seconds))));
    return reactor;
  }
  return new WaitReactor(environment_, context, *request, response);
}

grpc::ServerUnaryReactor* MiningServiceImpl::CancelOperation(grpc::CallbackServerContext* context,
                                                             const v1::CancelOperationRequest* request,
                                                             v1::CancelOperationResponse* response) {
  return RunCall(*environment_.executor, context, [this, request, response] {
    return StoreResult(environment_.miner->CancelOperation(request->id()), response->mutable_operation());
  });
}

grpc::ServerUnaryReactor* MiningServiceImpl::ListOperations(grpc::CallbackServerContext* context,
                                                            const v1::ListOperationsRequest*,
                                                            v1::ListOperationsResponse* response) {
  return RunCall(*environment_.executor, context, [this, response] {
    for (v1::Operation& operation : environment_.miner->ListOperations()) {
      *response->add_operations() = std::move(operation);
    }
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* MiningServiceImpl::ListGenerations(grpc::CallbackServerContext* context,
                                                             const v1::ListGenerationsRequest*,
                                                             v1::ListGenerationsResponse* response) {
  return RunCall(*environment_.executor, context, [this, response] {
    for (v1::GenerationInfo& info : environment_.miner->ListGenerations()) {
      *response->add_generations() = std::move(info);
    }
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* MiningServiceImpl::GetGeneration(grpc::CallbackServerContext* context,
                                                           const v1::GetGenerationRequest* request,
                                                           v1::GetGenerationResponse* response) {
  return RunCall(*environment_.executor, context, [this, request, response] {
    return StoreResult(environment_.miner->DescribeGeneration(request->generation()),
                       response->mutable_generation());
  });
}

grpc::ServerUnaryReactor* MiningServiceImpl::ActivateGeneration(grpc::CallbackServerContext* context,
                                                                const v1::ActivateGenerationRequest* request,
                                                                v1::ActivateGenerationResponse* response) {
  return RunCall(*environment_.executor, context, [this, request, response] {
    return StoreResult(environment_.miner->Activate(request->generation()), response->mutable_generation());
  });
}

grpc::ServerUnaryReactor* MiningServiceImpl::Rollback(grpc::CallbackServerContext* context,
                                                      const v1::RollbackRequest* request,
                                                      v1::RollbackResponse* response) {
  return RunCall(*environment_.executor, context, [this, request, response] {
    return StoreResult(environment_.miner->Rollback(request->dry_run()), response->mutable_generation());
  });
}

grpc::ServerUnaryReactor* MiningServiceImpl::RetireGeneration(grpc::CallbackServerContext* context,
                                                              const v1::RetireGenerationRequest* request,
                                                              v1::RetireGenerationResponse* response) {
  return RunCall(*environment_.executor, context, [this, request, response] {
    return StoreResult(environment_.miner->Retire(request->generation(), request->dry_run()),
                       response->mutable_generation());
  });
}

grpc::ServerUnaryReactor* MiningServiceImpl::PinGeneration(grpc::CallbackServerContext* context,
                                                           const v1::PinGenerationRequest* request,
                                                           v1::PinGenerationResponse* response) {
  return RunCall(*environment_.executor, context, [this, request, response] {
    return StoreResult(environment_.miner->Pin(request->generation(), request->pinned()),
                       response->mutable_generation());
  });
}

grpc::ServerUnaryReactor* MiningServiceImpl::DiffGenerations(grpc::CallbackServerContext* context,
                                                             const v1::DiffGenerationsRequest* request,
                                                             v1::DiffGenerationsResponse* response) {
  return RunCall(*environment_.executor, context, [this, request, response]() -> absl::Status {
    ASSIGN_OR_RETURN(const std::shared_ptr<const Generation> from,
                     environment_.miner->GetGeneration(request->from()));
    ASSIGN_OR_RETURN(const std::shared_ptr<const Generation> to,
                     environment_.miner->GetGeneration(request->to()));
    *response = doppel::DiffGenerations(*from, *to, *environment_.miner->catalog(),
                                        request->limit() == 0 ? kDefaultDiffLimit : request->limit());
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* MiningServiceImpl::GetSubspace(grpc::CallbackServerContext* context,
                                                         const v1::GetSubspaceRequest* request,
                                                         v1::GetSubspaceResponse* response) {
  return RunCall(*environment_.executor, context, [this, request, response]() -> absl::Status {
    ASSIGN_OR_RETURN(const std::shared_ptr<const Generation> generation,
                     environment_.miner->GetGeneration(request->generation()));
    return StoreResult(DescribeSubspace(*generation, *environment_.miner->catalog(), *request), response);
  });
}

grpc::ServerUnaryReactor* MiningServiceImpl::FindLookalikes(grpc::CallbackServerContext* context,
                                                            const v1::FindLookalikesRequest* request,
                                                            v1::FindLookalikesResponse* response) {
  return RunCall(*environment_.executor, context, [this, request, response]() -> absl::Status {
    ASSIGN_OR_RETURN(const std::shared_ptr<const Generation> generation,
                     environment_.miner->GetGeneration(request->generation()));
    return StoreResult(doppel::FindLookalikes(*generation, *environment_.miner->catalog(), *request),
                       response);
  });
}

grpc::ServerUnaryReactor* MiningServiceImpl::GetPolicy(grpc::CallbackServerContext* context,
                                                       const v1::GetPolicyRequest*,
                                                       v1::GetPolicyResponse* response) {
  return RunCall(*environment_.executor, context, [this, response] {
    *response = environment_.miner->GetPolicy();
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* MiningServiceImpl::SetPolicy(grpc::CallbackServerContext* context,
                                                       const v1::SetPolicyRequest* request,
                                                       v1::SetPolicyResponse* response) {
  return RunCall(*environment_.executor, context, [this, request, response]() -> absl::Status {
    v1::ReclusterPolicySpec confined = request->policy();
    if (confined.has_request()) {
      RETURN_IF_ERROR(ConfineModel(environment_.model_roots, confined.mutable_request()));
    }
    return StoreResult(environment_.miner->SetPolicy(confined), response->mutable_policy());
  });
}

grpc::ServerWriteReactor<v1::WatchResponse>* MiningServiceImpl::Watch(grpc::CallbackServerContext* context,
                                                                      const v1::WatchRequest* request) {
  return new WatchReactor(environment_, context, *request);
}

}  // namespace doppel
