#pragma once

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/time/clock.h"
#include "doppel/v1/batches.grpc.pb.h"

namespace doppel {

inline std::shared_ptr<grpc::Channel> TestChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

inline bool Eventually(const std::function<bool()>& condition) {
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

inline v1::StreamSpec SpecOf(const std::string& plan, uint32_t p, uint32_t k,
                             v1::PayloadKind payload = v1::PAYLOAD_KIND_ENCODED) {
  v1::StreamSpec spec;
  spec.mutable_plan()->set_name(plan);
  spec.mutable_plan()->set_identities_per_batch(p);
  spec.mutable_plan()->set_samples_per_identity(k);
  spec.set_seed(11);
  spec.set_payload(payload);
  return spec;
}

// A client made from the protos alone, step by step.
class StreamClient {
 public:
  explicit StreamClient(const std::string& address)
      : stub_(v1::BatchService::NewStub(TestChannel(address))), stream_(stub_->StreamBatches(&context_)) {}
  ~StreamClient() {
    if (finished_) return;
    context_.TryCancel();
    stream_->Finish();
  }

  void Open(const v1::StreamSpec& spec) {
    v1::StreamBatchesRequest request;
    *request.mutable_open() = spec;
    stream_->Write(request);
  }
  void Grant(uint32_t credits) {
    v1::StreamBatchesRequest request;
    request.set_credits(credits);
    stream_->Write(request);
  }
  void Acknowledge(uint64_t cursor) {
    v1::StreamBatchesRequest request;
    request.set_acknowledge_cursor(cursor);
    stream_->Write(request);
  }
  void Send(const v1::StreamBatchesRequest& request) { stream_->Write(request); }
  void HalfClose() { stream_->WritesDone(); }
  void Cancel() { context_.TryCancel(); }

  v1::StreamOpened ReadOpened() {
    v1::StreamBatchesResponse response;
    EXPECT_TRUE(stream_->Read(&response));
    EXPECT_TRUE(response.has_opened()) << response.ShortDebugString();
    return response.opened();
  }
  // A whole batch as one part of one; nullopt: the stream is over.
  std::optional<v1::Batch> ReadBatch() {
    v1::Batch whole;
    v1::StreamBatchesResponse response;
    do {
      if (!stream_->Read(&response)) return std::nullopt;
      EXPECT_TRUE(response.has_batch());
      const v1::Batch& part = response.batch();
      EXPECT_EQ(part.part_index(), parts_++);
      if (part.part_index() == 0) {
        whole = part;
      } else {
        for (const v1::Sample& sample : part.samples()) *whole.add_samples() = sample;
        *whole.mutable_pixels() += part.pixels();
      }
    } while (response.batch().part_index() + 1 < response.batch().part_count());
    last_parts_ = parts_;
    parts_ = 0;
    whole.set_part_index(0);
    whole.set_part_count(1);
    return whole;
  }
  // Of the last batch.
  uint32_t parts() const { return last_parts_; }

  grpc::Status Finish() {
    v1::StreamBatchesResponse response;
    while (stream_->Read(&response)) {
    }
    finished_ = true;
    return stream_->Finish();
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<v1::BatchService::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::StreamBatchesRequest, v1::StreamBatchesResponse>> stream_;
  uint32_t parts_ = 0, last_parts_ = 0;
  bool finished_ = false;
};

}  // namespace doppel
