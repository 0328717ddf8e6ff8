#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include "doppel/v1/batches.grpc.pb.h"
#include "services/miner_server/stream_reactor.h"

namespace doppel {

// BatchService on the callback API, with raw messages: bytes are laid out by us, so that images are not
// copied.
class BatchServiceImpl final
    : public v1::BatchService::WithRawCallbackMethod_StreamBatches<
          v1::BatchService::WithRawCallbackMethod_GetBatch<v1::BatchService::Service>> {
 public:
  // What `environment` points at is not owned.
  explicit BatchServiceImpl(StreamEnvironment environment) : environment_(std::move(environment)) {}

  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* StreamBatches(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* GetBatch(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;

 private:
  const StreamEnvironment environment_;
};

}  // namespace doppel
