#include "trainer/stream/model_publisher.h"

#include <utility>

#include "common/base/log.h"

namespace doppel {

ModelPublisher::ModelPublisher(std::unique_ptr<ModelClient> client, absl::Duration patience,
                               absl::Duration farewell)
    : client_(std::move(client)), patience_(patience), farewell_(farewell), thread_([this] { Run(); }) {}

ModelPublisher::~ModelPublisher() {
  {
    absl::MutexLock lock(&mutex_);
    if (!mutex_.AwaitWithTimeout(absl::Condition(this, &ModelPublisher::Idle), farewell_)) {
      DOPPEL_LOG(kWarning, "the last model could not be published within ", absl::FormatDuration(farewell_));
    }
    stopping_ = true;
    waiting_ = nullptr;
  }
  client_->Cancel();
  thread_.join();
}

void ModelPublisher::Publish(v1::ModelDescription model, std::string weights) {
  auto fresh = std::make_unique<Model>();
  fresh->description = std::move(model);
  fresh->weights = std::move(weights);
  absl::MutexLock lock(&mutex_);
  if (waiting_ != nullptr) ++counters_.superseded;
  waiting_ = std::move(fresh);
}

ModelPublisher::Counters ModelPublisher::counters() const {
  absl::MutexLock lock(&mutex_);
  return counters_;
}

void ModelPublisher::Run() {
  while (true) {
    std::unique_ptr<Model> model;
    {
      absl::MutexLock lock(&mutex_, absl::Condition(this, &ModelPublisher::HasWork));
      if (stopping_) return;
      model = std::move(waiting_);
      busy_ = true;
    }
    const absl::StatusOr<v1::PublishModelResponse> response =
        client_->Publish(model->description, model->weights, patience_);
    absl::MutexLock lock(&mutex_);
    busy_ = false;
    if (response.ok()) {
      ++counters_.published;
      DOPPEL_LOG(kInfo, "published model ", model->description.hash(), " of step ", response->model().step());
    } else {
      ++counters_.failed;
      DOPPEL_LOG(kWarning, "model ", model->description.hash(),
                 " was not published: ", std::string(response.status().message()));
    }
  }
}

}  // namespace doppel
