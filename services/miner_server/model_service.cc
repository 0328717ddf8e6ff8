#include <algorithm>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "services/miner_server/live_services.h"
#include "services/miner_server/stream_writer.h"
#include "services/miner_server/unary_call.h"

namespace doppel {
namespace {

constexpr uint64_t kModelChunkBytes = uint64_t{1} << 20;

absl::StatusOr<ModelStore*> StoreOf(const ControlEnvironment& environment) {
  ModelStore* store = environment.miner->models();
  if (store == nullptr) return absl::UnimplementedError("this miner has no model store");
  return store;
}

// One model on its way in; the stream may break off anywhere. Owned by the call.
class PublishReactor final : public grpc::ServerReadReactor<v1::PublishModelRequest> {
 public:
  PublishReactor(const ControlEnvironment& environment, v1::PublishModelResponse* response)
      : environment_(environment), response_(response) {
    StartRead(&request_);
  }

  void OnReadDone(bool ok) override {
    environment_.executor->Schedule([this, ok] { Handle(ok); });
  }
  void OnDone() override { delete this; }

 private:
  void Handle(bool ok) {
    const absl::Status status = ok ? Take() : End();
    if (ok && status.ok()) return StartRead(&request_);
    // Before the client may come again.
    upload_.reset();
    Finish(ToGrpc(status));
  }

  absl::Status Take() {
    if (request_.has_begin()) {
      if (upload_ != nullptr) return absl::InvalidArgumentError("begin: came twice");
      ASSIGN_OR_RETURN(ModelStore* const store, StoreOf(environment_));
      ASSIGN_OR_RETURN(upload_, store->Begin(request_.begin().model(), request_.begin().offset()));
      return absl::OkStatus();
    }
    if (upload_ == nullptr) return absl::InvalidArgumentError("begin: must come first");
    return upload_->Append(request_.chunk());
  }

  absl::Status End() {
    if (upload_ == nullptr) return absl::InvalidArgumentError("begin: did not come");
    ASSIGN_OR_RETURN(const ModelStore::Result result, upload_->Finish());
    DOPPEL_LOG(kInfo, "model ", result.model.hash(), " of step ", result.model.step(),
               result.created ? " was published by " : " was published again by ",
               result.model.publisher().empty() ? "nobody in particular" : result.model.publisher());
    *response_->mutable_model() = result.model;
    response_->set_created(result.created);
    return absl::OkStatus();
  }

  const ControlEnvironment& environment_;
  v1::PublishModelResponse* const response_;
  v1::PublishModelRequest request_;
  std::unique_ptr<ModelUpload> upload_;
};

class ModelWriter final : public MessageWriter<v1::FetchModelResponse> {
 public:
  ModelWriter(const ControlEnvironment& environment, const v1::FetchModelRequest& request)
      : MessageWriter(*environment.executor),
        environment_(environment),
        name_(request.name()),
        offset_(request.offset()) {
    Start();
  }

 private:
  absl::StatusOr<bool> Next(v1::FetchModelResponse* response) override {
    if (content_.weights == nullptr) {
      ASSIGN_OR_RETURN(content_, environment_.miner->OpenModel(name_));
      if (offset_ > content_.weights->size()) {
        return absl::OutOfRangeError(absl::StrCat("offset: ", offset_, " of ", content_.weights->size(),
                                                  " bytes of model ", content_.description.hash()));
      }
      *response->mutable_model() = content_.description;
      return true;
    }
    if (offset_ == content_.weights->size()) return false;
    const absl::string_view chunk = content_.weights->data().substr(offset_, kModelChunkBytes);
    response->set_chunk(chunk.data(), chunk.size());
    offset_ += chunk.size();
    return true;
  }

  const ControlEnvironment& environment_;
  const std::string name_;
  uint64_t offset_;
  ModelContent content_;
};

}  // namespace

grpc::ServerUnaryReactor* ModelServiceImpl::QueryModel(grpc::CallbackServerContext* context,
                                                       const v1::QueryModelRequest* request,
                                                       v1::QueryModelResponse* response) {
  return RunCall(*environment_.executor, context, [this, request, response]() -> absl::Status {
    ASSIGN_OR_RETURN(const ModelStore* const store, StoreOf(environment_));
    return StoreResult(store->Query(request->hash()), response);
  });
}

grpc::ServerReadReactor<v1::PublishModelRequest>* ModelServiceImpl::PublishModel(
    grpc::CallbackServerContext* context, v1::PublishModelResponse* response) {
  return new PublishReactor(environment_, response);
}

grpc::ServerUnaryReactor* ModelServiceImpl::ListModels(grpc::CallbackServerContext* context,
                                                       const v1::ListModelsRequest* request,
                                                       v1::ListModelsResponse* response) {
  return RunCall(*environment_.executor, context, [this, response]() -> absl::Status {
    ASSIGN_OR_RETURN(const ModelStore* const store, StoreOf(environment_));
    *response = store->List();
    return absl::OkStatus();
  });
}

grpc::ServerWriteReactor<v1::FetchModelResponse>* ModelServiceImpl::FetchModel(
    grpc::CallbackServerContext* context, const v1::FetchModelRequest* request) {
  return new ModelWriter(environment_, *request);
}

}  // namespace doppel
