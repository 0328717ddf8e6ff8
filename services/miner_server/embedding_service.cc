#include "services/miner_server/control_services.h"
#include "services/miner_server/live_services.h"
#include "services/miner_server/unary_call.h"

namespace doppel {

grpc::ServerUnaryReactor* EmbeddingServiceImpl::LeaseRange(grpc::CallbackServerContext* context,
                                                           const v1::LeaseRangeRequest* request,
                                                           v1::LeaseRangeResponse* response) {
  return RunCall(*environment_.executor, context, [this, request, response] {
    return StoreResult(environment_.miner->LeaseRange(*request), response);
  });
}

grpc::ServerUnaryReactor* EmbeddingServiceImpl::RenewLease(grpc::CallbackServerContext* context,
                                                           const v1::RenewLeaseRequest* request,
                                                           v1::RenewLeaseResponse* response) {
  return RunCall(*environment_.executor, context, [this, request, response] {
    return StoreResult(environment_.miner->RenewLease(*request), response);
  });
}

grpc::ServerUnaryReactor* EmbeddingServiceImpl::CommitRange(grpc::CallbackServerContext* context,
                                                            const v1::CommitRangeRequest* request,
                                                            v1::CommitRangeResponse* response) {
  return RunCall(*environment_.executor, context, [this, request, response] {
    return StoreResult(environment_.miner->CommitRange(*request), response);
  });
}

grpc::ServerWriteReactor<v1::FetchRangeResponse>* EmbeddingServiceImpl::FetchRange(
    grpc::CallbackServerContext* context, const v1::FetchRangeRequest* request) {
  return StartRangeStream(environment_, *request);
}

}  // namespace doppel
