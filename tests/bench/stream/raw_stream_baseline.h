#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/sync_stream.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/catalog/catalog.h"
#include "doppel/v1/batches.grpc.pb.h"

namespace doppel {

// Whether there is anything to send from.
inline bool HasMappedFiles(const Catalog& catalog) {
  for (uint32_t i = 0; i < catalog.num_sources(); ++i) {
    const absl::StatusOr<MappedSource> file = catalog.Source(i);
    if (file.ok() && !file->bytes.empty()) return true;
  }
  return false;
}

// The limit of the transport: a stream of raw messages, each one slice of a mapped file of the catalog, one
// behind the other over all files.
class RawBaselineServer {
 public:
  // Precondition: the catalog has at least one mapped file.
  RawBaselineServer(std::shared_ptr<const Catalog> catalog, uint64_t message_bytes)
      : service_(std::move(catalog), message_bytes) {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    address_ = absl::StrCat("127.0.0.1:", port);
  }
  ~RawBaselineServer() { server_->Shutdown(std::chrono::system_clock::now()); }
  const std::string& address() const { return address_; }

 private:
  class Source {
   public:
    Source(std::shared_ptr<const Catalog> catalog, uint64_t message_bytes) : message_bytes_(message_bytes) {
      for (uint32_t i = 0; i < catalog->num_sources(); ++i) {
        const absl::StatusOr<MappedSource> file = catalog->Source(i);
        if (!file.ok() || file->bytes.empty()) continue;
        auto* const owner = new std::shared_ptr<const void>(file->owner);
        files_.emplace_back(
            const_cast<char*>(file->bytes.data()), file->bytes.size(),
            [](void* held) { delete static_cast<std::shared_ptr<const void>*>(held); }, owner);
      }
    }
    // Slices of one file, or of several where one ends.
    grpc::ByteBuffer Next() {
      std::vector<grpc::Slice> slices;
      for (uint64_t left = message_bytes_; left > 0;) {
        if (offset_ == files_[file_].size()) {
          file_ = (file_ + 1) % files_.size();
          offset_ = 0;
        }
        const uint64_t size = std::min<uint64_t>(left, files_[file_].size() - offset_);
        slices.push_back(files_[file_].sub(offset_, offset_ + size));
        offset_ += size;
        left -= size;
      }
      return grpc::ByteBuffer(slices.data(), slices.size());
    }

   private:
    const uint64_t message_bytes_;
    std::vector<grpc::Slice> files_;
    size_t file_ = 0;
    uint64_t offset_ = 0;
  };

  class Reactor : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
   public:
    Reactor(std::shared_ptr<const Catalog> catalog, uint64_t message_bytes)
        : source_(std::move(catalog), message_bytes) {
      OnWriteDone(true);
    }
    void OnWriteDone(bool ok) override {
      if (!ok) return Finish(grpc::Status::CANCELLED);
      message_ = source_.Next();
      StartWrite(&message_);
    }
    void OnDone() override { delete this; }

   private:
    Source source_;
    grpc::ByteBuffer message_;
  };

  class Service final
      : public v1::BatchService::WithRawCallbackMethod_StreamBatches<v1::BatchService::Service> {
   public:
    Service(std::shared_ptr<const Catalog> catalog, uint64_t message_bytes)
        : catalog_(std::move(catalog)), message_bytes_(message_bytes) {}
    grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* StreamBatches(
        grpc::CallbackServerContext*) override {
      return new Reactor(catalog_, message_bytes_);
    }

   private:
    const std::shared_ptr<const Catalog> catalog_;
    const uint64_t message_bytes_;
  };

  Service service_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

// A client that takes messages as they are.
class RawClient {
 public:
  explicit RawClient(const std::string& address) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    channel_ = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
    const grpc::internal::RpcMethod method("/doppel.v1.BatchService/StreamBatches",
                                           grpc::internal::RpcMethod::BIDI_STREAMING, channel_);
    stream_.reset(grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>::Create(
        channel_.get(), method, &context_));
  }
  ~RawClient() {
    context_.TryCancel();
    stream_->Finish();
  }
  void Send(const v1::StreamBatchesRequest& request) {
    const grpc::Slice slice(request.SerializeAsString());
    stream_->Write(grpc::ByteBuffer(&slice, 1));
  }
  // Bytes of the next message; 0: the end.
  uint64_t Read() {
    grpc::ByteBuffer message;
    return stream_->Read(&message) ? message.Length() : 0;
  }

 private:
  grpc::ClientContext context_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>> stream_;
};

}  // namespace doppel
