#pragma once

#include <grpcpp/support/server_callback.h>

#include "absl/status/statusor.h"
#include "common/base/executor.h"
#include "services/miner_server/grpc_status.h"

namespace doppel {

// A stream of messages to one client. Each is made on the executor, when the one before has been written.
// Owned by the call.
template <typename Response>
class MessageWriter : public grpc::ServerWriteReactor<Response> {
 public:
  // Derived constructors call Start last.
  explicit MessageWriter(Executor& executor) : executor_(executor) {}

  void OnWriteDone(bool ok) override {
    if (!ok) return this->Finish(grpc::Status(grpc::StatusCode::CANCELLED, "the client has gone"));
    Schedule();
  }
  void OnDone() override { delete this; }

 protected:
  void Start() { Schedule(); }
  // Fills the next message in; false: there are no more.
  virtual absl::StatusOr<bool> Next(Response* response) = 0;

 private:
  void Schedule() {
    executor_.Schedule([this] {
      response_.Clear();
      const absl::StatusOr<bool> more = Next(&response_);
      if (!more.ok() || !*more) return this->Finish(ToGrpc(more.status()));
      this->StartWrite(&response_);
    });
  }

  Executor& executor_;
  Response response_;
};

}  // namespace doppel
