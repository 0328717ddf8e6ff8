#include "services/miner_server/batch_service.h"

#include <grpcpp/impl/codegen/proto_utils.h>

#include <utility>

#include "common/base/status_macros.h"
#include "services/miner_server/grpc_status.h"

namespace doppel {
namespace {

absl::StatusOr<WireBatch> BuildOne(BatchCore& core, const v1::StreamSpec& spec) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const BoundStream> bound, core.Bind(spec));
  return core.Build(*bound, spec.cursor(), BatchEnvelope::kGetBatch);
}

}  // namespace

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* BatchServiceImpl::StreamBatches(
    grpc::CallbackServerContext* context) {
  return StreamReactor::Start(environment_, context->peer(), environment_.client_of(*context));
}

grpc::ServerUnaryReactor* BatchServiceImpl::GetBatch(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* request,
                                                     grpc::ByteBuffer* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  grpc::ByteBuffer bytes(*request);
  v1::GetBatchRequest parsed;
  if (!grpc::SerializationTraits<v1::GetBatchRequest>::Deserialize(&bytes, &parsed).ok()) {
    reactor->Finish(grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "the request is not a GetBatchRequest"));
    return reactor;
  }
  Executor* const executor = parsed.spec().payload() == v1::PAYLOAD_KIND_DECODED
                                 ? environment_.decode_executor
                                 : environment_.executor;
  executor->Schedule([this, reactor, response, spec = parsed.spec()] {
    absl::StatusOr<WireBatch> batch = BuildOne(*environment_.core, spec);
    if (batch.ok()) *response = batch->parts[0];
    reactor->Finish(ToGrpc(batch.status()));
  });
  return reactor;
}

}  // namespace doppel
