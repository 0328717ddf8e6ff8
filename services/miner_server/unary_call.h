#pragma once

#include <grpcpp/support/server_callback.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/executor.h"
#include "services/miner_server/grpc_status.h"

namespace doppel {

// Runs `call` (→ absl::Status) on the executor and finishes the RPC with what it returns. Request and
// response live until then.
template <typename Call>
grpc::ServerUnaryReactor* RunCall(Executor& executor, grpc::CallbackServerContext* context, Call call) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  executor.Schedule([reactor, call = std::move(call)] { reactor->Finish(ToGrpc(call())); });
  return reactor;
}

// Moves a good result into `out`.
template <typename T>
absl::Status StoreResult(absl::StatusOr<T> result, T* out) {
  if (!result.ok()) return result.status();
  *out = *std::move(result);
  return absl::OkStatus();
}

}  // namespace doppel
