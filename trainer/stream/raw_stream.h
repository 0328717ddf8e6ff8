#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/sync_stream.h>

#include <memory>
#include <string>
#include <variant>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/net/client_security.h"
#include "doppel/v1/batches.pb.h"
#include "trainer/stream/received_batch.h"

namespace doppel {

// A channel for one stream of batches, with a connection of its own.
std::shared_ptr<grpc::Channel> MakeBatchChannel(const std::string& address,
                                                const ClientSecurity& security = {});

// BatchService.StreamBatches whose responses are taken as they come, without protobuf's copies. Write and
// Read may be called from two threads; everything else as for grpc::ClientReaderWriter.
class RawStream {
 public:
  using Response = std::variant<v1::StreamOpened, ReceivedBatch, v1::Acknowledged>;

  RawStream(grpc::Channel* channel, grpc::ClientContext* context);

  bool Write(const v1::StreamBatchesRequest& request);
  // OUT_OF_RANGE: the stream is over. DATA_LOSS: what came is not a StreamBatchesResponse.
  absl::StatusOr<Response> Read();
  grpc::Status Finish() { return stream_->Finish(); }

 private:
  std::unique_ptr<grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>> stream_;
};

}  // namespace doppel
