#include "trainer/stream/raw_stream.h"

#include <utility>
#include <vector>

#include "common/base/status_macros.h"
#include "common/net/client_credentials.h"

namespace doppel {
namespace {

constexpr char kStreamBatches[] = "/doppel.v1.BatchService/StreamBatches";
constexpr uint64_t BytesTag(int field) { return static_cast<uint64_t>(field) << 3 | 2; }

MessageBytes TakeMessage(grpc::ByteBuffer& buffer) {
  auto slices = std::make_shared<std::vector<grpc::Slice>>();
  MessageBytes message;
  if (!buffer.Dump(slices.get()).ok()) return message;
  buffer.Clear();
  message.pieces.reserve(slices->size());
  for (const grpc::Slice& slice : *slices) {
    message.pieces.emplace_back(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  message.owner = std::move(slices);
  return message;
}

template <typename Message>
absl::StatusOr<Message> ParseSmall(const MessageBytes& bytes, const ByteRange& range) {
  std::string scratch;
  const absl::string_view view = Contiguous(bytes, range, &scratch);
  Message message;
  if (message.ParseFromArray(view.data(), static_cast<int>(view.size()))) return message;
  return absl::DataLossError("a message of the stream cannot be read");
}

absl::StatusOr<RawStream::Response> ParseResponse(MessageBytes bytes) {
  WireReader reader(bytes);
  while (!reader.AtEnd()) {
    uint64_t tag = 0;
    ByteRange range;
    if (!reader.ReadVarint(&tag)) break;
    if ((tag & 7) != 2) {
      if (!reader.SkipValue(tag & 7)) break;
      continue;
    }
    if (!reader.ReadRange(&range)) break;
    if (tag == BytesTag(v1::StreamBatchesResponse::kBatchFieldNumber)) {
      ASSIGN_OR_RETURN(ReceivedBatch batch, ParseBatch(std::move(bytes), range));
      return RawStream::Response(std::move(batch));
    }
    if (tag == BytesTag(v1::StreamBatchesResponse::kOpenedFieldNumber)) {
      ASSIGN_OR_RETURN(v1::StreamOpened opened, ParseSmall<v1::StreamOpened>(bytes, range));
      return RawStream::Response(std::move(opened));
    }
    if (tag == BytesTag(v1::StreamBatchesResponse::kAcknowledgedFieldNumber)) {
      ASSIGN_OR_RETURN(v1::Acknowledged acknowledged, ParseSmall<v1::Acknowledged>(bytes, range));
      return RawStream::Response(std::move(acknowledged));
    }
  }
  return absl::DataLossError("a message of the stream is not a StreamBatchesResponse");
}

}  // namespace

std::shared_ptr<grpc::Channel> MakeBatchChannel(const std::string& address, const ClientSecurity& security) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetMaxSendMessageSize(-1);
  // A connection of its own: flow control is shared on one, and a slow stream would hold up others.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  return MakeChannel(address, security, arguments);
}

RawStream::RawStream(grpc::Channel* channel, grpc::ClientContext* context) {
  const grpc::internal::RpcMethod method(kStreamBatches, grpc::internal::RpcMethod::BIDI_STREAMING);
  stream_.reset(grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>::Create(
      channel, method, context));
}

bool RawStream::Write(const v1::StreamBatchesRequest& request) {
  const grpc::Slice slice(request.SerializeAsString());
  return stream_->Write(grpc::ByteBuffer(&slice, 1));
}

absl::StatusOr<RawStream::Response> RawStream::Read() {
  grpc::ByteBuffer buffer;
  if (!stream_->Read(&buffer)) return absl::OutOfRangeError("the stream is over");
  return ParseResponse(TakeMessage(buffer));
}

}  // namespace doppel
