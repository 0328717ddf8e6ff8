#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "services/miner_server/stream_reactor.h"

namespace doppel {

// One GetBatch: bound, then built when there is memory for it, then sent.
class GetBatchCall : public grpc::ServerUnaryReactor,
                     public MemoryHolder,
                     public std::enable_shared_from_this<GetBatchCall> {
 public:
  // Owned by the call. `response` is gRPC's until the call is done.
  static GetBatchCall* Start(const StreamEnvironment& environment, grpc::CallbackServerContext* context,
                             const v1::StreamSpec& spec, grpc::ByteBuffer* response);

  // A client that does not read its batch is cut off.
  void MakeRoom() override;

  void OnCancel() override;
  void OnDone() override;

 private:
  GetBatchCall(const StreamEnvironment& environment, grpc::CallbackServerContext* context,
               const v1::StreamSpec& spec, grpc::ByteBuffer* response);

  // On the executor.
  void Bind() ABSL_LOCKS_EXCLUDED(mutex_);
  void Build(const BoundStream& bound, MemoryBudget::Hold hold) ABSL_LOCKS_EXCLUDED(mutex_);
  void End(const grpc::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);

  const StreamEnvironment environment_;
  const v1::StreamSpec spec_;
  FairExecutor* const executor_;
  const std::shared_ptr<FairExecutor::Flow> flow_;

  // Apart, as cancelling may call back at once.
  absl::Mutex context_mutex_;
  grpc::CallbackServerContext* context_ ABSL_GUARDED_BY(context_mutex_);  // until OnDone

  absl::Mutex mutex_;
  grpc::ByteBuffer* const response_ ABSL_PT_GUARDED_BY(mutex_);
  std::shared_ptr<GetBatchCall> self_ ABSL_GUARDED_BY(mutex_);  // until OnDone
  MemoryBudget::Hold hold_ ABSL_GUARDED_BY(mutex_);
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time finished_at_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace doppel
