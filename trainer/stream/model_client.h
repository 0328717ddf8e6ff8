#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/net/client_security.h"
#include "doppel/v1/models.pb.h"

namespace doppel {

// A miner's model store, over gRPC. Calls block; Cancel may come from any thread.
class ModelClient {
 public:
  virtual ~ModelClient() = default;

  // Sends a model, from where the store has it on. When the stream breaks off it asks again and goes on, with
  // backoff, for `patience` since the last byte that got through.
  virtual absl::StatusOr<v1::PublishModelResponse> Publish(const v1::ModelDescription& model,
                                                           absl::string_view weights,
                                                           absl::Duration patience) = 0;
  virtual absl::StatusOr<v1::ListModelsResponse> List() = 0;

  struct Sink {
    // Once, before the chunks.
    std::function<absl::Status(const v1::ModelDescription&)> begin;
    std::function<absl::Status(absl::string_view)> chunk;
  };
  // One attempt: the weights from `offset` on. An error of the sink ends it and is returned.
  virtual absl::Status Fetch(const std::string& name, uint64_t offset, const Sink& sink) = 0;

  // Every call under way and to come ends with CANCELLED.
  virtual void Cancel() = 0;
};

std::unique_ptr<ModelClient> MakeGrpcModelClient(const std::string& address,
                                                 const ClientSecurity& security = {});

}  // namespace doppel
