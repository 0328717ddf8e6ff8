#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/io/crc32c.h"
#include "doppel/v1/batches.grpc.pb.h"

namespace doppel {

// Two identities, one sample each, of bytes that follow from the cursor.
inline v1::Batch MakeTestBatch(uint64_t cursor) {
  v1::Batch batch;
  batch.set_cursor(cursor);
  batch.set_plan("random");
  batch.set_identities_per_batch(2);
  batch.set_samples_per_identity(1);
  batch.set_payload(v1::PAYLOAD_KIND_ENCODED);
  batch.set_part_count(1);
  for (uint64_t i = 0; i < 2; ++i) {
    v1::Sample* sample = batch.add_samples();
    sample->set_identity(2 * cursor + i);
    sample->set_sample(20 * cursor + i);
    sample->set_encoded(absl::StrCat("bytes of ", cursor, "/", i));
    sample->set_crc32c(Crc32c(sample->encoded()));
  }
  return batch;
}

// A server that obeys the test. Hooks are set before it starts and may be called from any thread.
class FakeBatchService : public v1::BatchService::Service {
 public:
  // What one stream sends for a cursor; nothing: end the stream with `end`.
  std::function<std::vector<v1::Batch>(uint64_t cursor)> batches = [](uint64_t cursor) {
    return std::vector<v1::Batch>{MakeTestBatch(cursor)};
  };
  std::function<v1::Batch(uint64_t cursor)> get_batch = MakeTestBatch;
  grpc::Status end = grpc::Status(grpc::StatusCode::UNAVAILABLE, "draining");
  std::function<std::string()> fingerprint = [] { return "catalog"; };

  struct Seen {
    std::vector<v1::StreamSpec> opened;
    std::vector<uint64_t> acknowledged;
    uint64_t granted = 0, sent = 0, fetched = 0;
  };
  Seen seen() const {
    absl::MutexLock lock(&mutex_);
    return seen_;
  }

  grpc::Status StreamBatches(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<v1::StreamBatchesResponse, v1::StreamBatchesRequest>* stream) override {
    v1::StreamBatchesRequest request;
    if (!stream->Read(&request) || !request.has_open()) return grpc::Status::OK;
    const v1::StreamSpec spec = request.open();
    {
      absl::MutexLock lock(&mutex_);
      seen_.opened.push_back(spec);
    }
    v1::StreamBatchesResponse opened;
    opened.mutable_opened()->set_catalog_fingerprint(fingerprint());
    stream->Write(opened);
    uint64_t cursor = spec.cursor(), sent = 0;
    while (spec.max_batches() == 0 || sent < spec.max_batches()) {
      if (!stream->Read(&request)) return grpc::Status::OK;
      if (request.request_case() == v1::StreamBatchesRequest::kAcknowledgeCursor) {
        absl::MutexLock lock(&mutex_);
        seen_.acknowledged.push_back(request.acknowledge_cursor());
        continue;
      }
      for (uint32_t credit = 0; credit < request.credits(); ++credit) {
        if (spec.max_batches() > 0 && sent == spec.max_batches()) break;
        const std::vector<v1::Batch> parts = batches(cursor);
        if (parts.empty()) return end;
        {
          absl::MutexLock lock(&mutex_);
          ++seen_.granted;
          ++seen_.sent;
        }
        for (const v1::Batch& part : parts) {
          v1::StreamBatchesResponse response;
          *response.mutable_batch() = part;
          stream->Write(response);
        }
        ++cursor;
        ++sent;
      }
    }
    return grpc::Status::OK;
  }

  grpc::Status GetBatch(grpc::ServerContext*, const v1::GetBatchRequest* request,
                        v1::GetBatchResponse* response) override {
    *response->mutable_batch() = get_batch(request->spec().cursor());
    if (request->spec().payload() == v1::PAYLOAD_KIND_REFERENCE) {
      response->mutable_batch()->set_payload(v1::PAYLOAD_KIND_REFERENCE);
      uint64_t offset = 1000;
      for (v1::Sample& sample : *response->mutable_batch()->mutable_samples()) {
        sample.clear_encoded();
        sample.mutable_reference()->set_path("/data/shard.tar");
        sample.mutable_reference()->set_offset(offset++);
      }
      return grpc::Status::OK;
    }
    absl::MutexLock lock(&mutex_);
    ++seen_.fetched;
    return grpc::Status::OK;
  }

 private:
  mutable absl::Mutex mutex_;
  Seen seen_ ABSL_GUARDED_BY(mutex_);
};

// A listening server around a service that is not owned. Port 0: any.
class FakeServer {
 public:
  explicit FakeServer(FakeBatchService* service, int port = 0) {
    grpc::ServerBuilder builder;
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.AddListeningPort(absl::StrCat("127.0.0.1:", port), grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(service);
    server_ = builder.BuildAndStart();
  }
  ~FakeServer() { server_->Shutdown(std::chrono::system_clock::now()); }
  int port() const { return port_; }
  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }

 private:
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace doppel
