#include "services/miner_server/batch_service.h"

#include <grpcpp/impl/codegen/proto_utils.h>

#include "services/miner_server/get_batch_call.h"

namespace doppel {

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* BatchServiceImpl::StreamBatches(
    grpc::CallbackServerContext* context) {
  return StreamReactor::Start(environment_, context);
}

grpc::ServerUnaryReactor* BatchServiceImpl::GetBatch(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* request,
                                                     grpc::ByteBuffer* response) {
  grpc::ByteBuffer bytes(*request);
  v1::GetBatchRequest parsed;
  if (!grpc::SerializationTraits<v1::GetBatchRequest>::Deserialize(&bytes, &parsed).ok()) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "the request is not a GetBatchRequest"));
    return reactor;
  }
  return GetBatchCall::Start(environment_, context, parsed.spec(), response);
}

}  // namespace doppel
