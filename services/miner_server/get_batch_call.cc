#include "services/miner_server/get_batch_call.h"

#include <utility>

#include "absl/time/clock.h"
#include "common/base/log.h"
#include "services/miner_server/grpc_status.h"

namespace doppel {

GetBatchCall* GetBatchCall::Start(const StreamEnvironment& environment, grpc::CallbackServerContext* context,
                                  const v1::StreamSpec& spec, grpc::ByteBuffer* response) {
  const std::shared_ptr<GetBatchCall> call(new GetBatchCall(environment, context, spec, response));
  absl::MutexLock lock(&call->mutex_);
  call->self_ = call;
  call->executor_->Schedule(call->flow_, [call] { call->Bind(); });
  return call.get();
}

GetBatchCall::GetBatchCall(const StreamEnvironment& environment, grpc::CallbackServerContext* context,
                           const v1::StreamSpec& spec, grpc::ByteBuffer* response)
    : environment_(environment),
      spec_(spec),
      executor_(spec.payload() == v1::PAYLOAD_KIND_DECODED ? environment.decode_executor
                                                           : environment.executor),
      flow_(executor_->NewFlow(environment.client_of(*context))),
      context_(context),
      response_(response) {}

void GetBatchCall::Bind() {
  absl::StatusOr<std::shared_ptr<const BoundStream>> bound = environment_.core->Bind(spec_);
  if (!bound.ok()) return End(ToGrpc(bound.status()));
  const uint64_t bytes = (*bound)->expected_bytes;
  environment_.queued->Take(
      bytes, weak_from_this(),
      [weak = weak_from_this(), executor = executor_, flow = flow_,
       bound = *std::move(bound)](MemoryBudget::Hold hold) {
        std::shared_ptr<GetBatchCall> self = weak.lock();
        if (self == nullptr) return;
        executor->Schedule(
            flow, [self = std::move(self), bound, hold = std::move(hold)] { self->Build(*bound, hold); });
      });
}

void GetBatchCall::Build(const BoundStream& bound, MemoryBudget::Hold hold) {
  {
    absl::MutexLock lock(&mutex_);
    if (finished_) return;
  }
  absl::StatusOr<WireBatch> batch = environment_.core->Build(bound, spec_.cursor(), BatchEnvelope::kGetBatch);
  if (batch.ok()) {
    absl::MutexLock lock(&mutex_);
    if (finished_) return;
    *response_ = batch->parts[0];
    hold_ = std::move(hold);
  }
  End(ToGrpc(batch.status()));
}

void GetBatchCall::End(const grpc::Status& status) {
  absl::MutexLock lock(&mutex_);
  if (finished_) return;
  finished_ = true;
  finished_at_ = absl::Now();
  Finish(status);
}

void GetBatchCall::MakeRoom() {
  {
    absl::MutexLock lock(&mutex_);
    if (hold_ == nullptr || !finished_ || absl::Now() - finished_at_ < environment_.max_unread) return;
  }
  environment_.metrics->unread.Add();
  absl::MutexLock lock(&context_mutex_);
  if (context_ == nullptr) return;
  DOPPEL_LOG(kWarning, "a client has not read its batch for max_unread_seconds = ",
             absl::ToDoubleSeconds(environment_.max_unread), ", and others wait for memory: cut off");
  context_->TryCancel();
}

void GetBatchCall::OnCancel() {
  End(grpc::Status(grpc::StatusCode::CANCELLED, "the client cancelled the call"));
}

void GetBatchCall::OnDone() {
  {
    absl::MutexLock lock(&context_mutex_);
    context_ = nullptr;
  }
  std::shared_ptr<GetBatchCall> self;
  absl::MutexLock lock(&mutex_);
  hold_ = nullptr;
  self = std::move(self_);
}

}  // namespace doppel
