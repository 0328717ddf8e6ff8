#include "trainer/stream/model_client.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <set>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/base/status_macros.h"
#include "common/net/client_credentials.h"
#include "doppel/v1/models.grpc.pb.h"

namespace doppel {
namespace {

constexpr size_t kUploadChunkBytes = size_t{1} << 20;
constexpr absl::Duration kFirstWait = absl::Milliseconds(100);
constexpr absl::Duration kLastWait = absl::Seconds(5);
constexpr absl::Duration kUnaryTimeout = absl::Seconds(30);

bool MayWorkLater(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsAborted(status) || absl::IsOutOfRange(status) ||
         absl::IsDataLoss(status) || absl::IsDeadlineExceeded(status) || absl::IsResourceExhausted(status);
}

class GrpcModelClient final : public ModelClient {
 public:
  GrpcModelClient(const std::string& address, const ClientSecurity& security) : address_(address) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
    stub_ = v1::ModelService::NewStub(MakeChannel(address, security, arguments));
  }

  absl::StatusOr<v1::PublishModelResponse> Publish(const v1::ModelDescription& model,
                                                   absl::string_view weights,
                                                   absl::Duration patience) override {
    absl::Time progress = absl::Now();
    uint64_t furthest = 0;
    absl::Duration wait = kFirstWait;
    while (true) {
      uint64_t reached = 0;
      absl::StatusOr<v1::PublishModelResponse> response = PublishOnce(model, weights, &reached);
      if (response.ok() || !MayWorkLater(response.status())) return response;
      if (reached > furthest) {
        furthest = reached;
        progress = absl::Now();
        wait = kFirstWait;
      }
      if (absl::Now() - progress > patience) return response;
      if (!Wait(wait)) return absl::CancelledError("publishing was cancelled");
      wait = std::min(2 * wait, kLastWait);
    }
  }

  absl::StatusOr<v1::ListModelsResponse> List() override {
    Call call(this, kUnaryTimeout);
    v1::ListModelsResponse response;
    RETURN_IF_ERROR(Status(stub_->ListModels(&call.context, v1::ListModelsRequest(), &response)));
    return response;
  }

  absl::Status Fetch(const std::string& name, uint64_t offset, const Sink& sink) override {
    Call call(this, absl::InfiniteDuration());
    v1::FetchModelRequest request;
    request.set_name(name);
    request.set_offset(offset);
    const auto reader = stub_->FetchModel(&call.context, request);
    v1::FetchModelResponse response;
    absl::Status taken;
    while (taken.ok() && reader->Read(&response)) {
      taken = response.has_model() ? sink.begin(response.model()) : sink.chunk(response.chunk());
    }
    if (!taken.ok()) call.context.TryCancel();
    const grpc::Status status = reader->Finish();
    RETURN_IF_ERROR(taken);
    return Status(status);
  }

  void Cancel() override {
    absl::MutexLock lock(&mutex_);
    cancelled_ = true;
    for (grpc::ClientContext* context : contexts_) context->TryCancel();
  }

 private:
  // A call that Cancel reaches.
  struct Call {
    Call(GrpcModelClient* owner, absl::Duration timeout) : client(owner) {
      if (timeout != absl::InfiniteDuration())
        context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
      absl::MutexLock lock(&client->mutex_);
      client->contexts_.insert(&context);
      if (client->cancelled_) context.TryCancel();
    }
    ~Call() {
      absl::MutexLock lock(&client->mutex_);
      client->contexts_.erase(&context);
    }
    GrpcModelClient* const client;
    grpc::ClientContext context;
  };

  absl::Status Status(const grpc::Status& status) const {
    if (status.ok()) return absl::OkStatus();
    return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                        absl::StrCat("miner at ", address_, ": ", status.error_message()));
  }

  // False: cancelled meanwhile.
  bool Wait(absl::Duration time) {
    absl::MutexLock lock(&mutex_);
    return !mutex_.AwaitWithTimeout(absl::Condition(&cancelled_), time);
  }

  absl::StatusOr<v1::PublishModelResponse> PublishOnce(const v1::ModelDescription& model,
                                                       absl::string_view weights, uint64_t* reached) {
    v1::QueryModelResponse there;
    {
      Call call(this, kUnaryTimeout);
      v1::QueryModelRequest request;
      request.set_hash(model.hash());
      RETURN_IF_ERROR(Status(stub_->QueryModel(&call.context, request, &there)));
    }
    uint64_t offset = std::min<uint64_t>(there.bytes(), weights.size());
    *reached = offset;
    Call call(this, absl::InfiniteDuration());
    v1::PublishModelResponse response;
    const auto writer = stub_->PublishModel(&call.context, &response);
    v1::PublishModelRequest request;
    *request.mutable_begin()->mutable_model() = model;
    request.mutable_begin()->set_offset(there.complete() ? 0 : there.bytes());
    bool open = writer->Write(request);
    while (open && !there.complete() && offset < weights.size()) {
      const absl::string_view chunk = weights.substr(offset, kUploadChunkBytes);
      request.set_chunk(chunk.data(), chunk.size());
      open = writer->Write(request);
      offset += chunk.size();
    }
    if (open) writer->WritesDone();
    RETURN_IF_ERROR(Status(writer->Finish()));
    return response;
  }

  const std::string address_;
  std::unique_ptr<v1::ModelService::Stub> stub_;
  absl::Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::set<grpc::ClientContext*> contexts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::unique_ptr<ModelClient> MakeGrpcModelClient(const std::string& address, const ClientSecurity& security) {
  return std::make_unique<GrpcModelClient>(address, security);
}

}  // namespace doppel
