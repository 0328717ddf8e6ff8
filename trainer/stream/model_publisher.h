#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "doppel/v1/models.pb.h"
#include "trainer/stream/model_client.h"

namespace doppel {

// Publishes a training's models in the background. What waits is replaced by what is newer; what is on its
// way is finished, with retries, unless the miner stays away for longer than `patience`. Outcomes are logged.
// Thread-safe.
class ModelPublisher {
 public:
  explicit ModelPublisher(std::unique_ptr<ModelClient> client, absl::Duration patience = absl::Minutes(5),
                          absl::Duration farewell = absl::Seconds(10));
  // Gives what is not yet there `farewell`.
  ~ModelPublisher();
  ModelPublisher(const ModelPublisher&) = delete;
  ModelPublisher& operator=(const ModelPublisher&) = delete;

  // Returns at once.
  void Publish(v1::ModelDescription model, std::string weights) ABSL_LOCKS_EXCLUDED(mutex_);

  struct Counters {
    uint64_t published = 0;
    uint64_t failed = 0;
    uint64_t superseded = 0;  // by a newer one, before their turn
  };
  Counters counters() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Model {
    v1::ModelDescription description;
    std::string weights;
  };
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return waiting_ != nullptr || stopping_; }
  bool Idle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return waiting_ == nullptr && !busy_; }
  void Run() ABSL_LOCKS_EXCLUDED(mutex_);

  const std::unique_ptr<ModelClient> client_;
  const absl::Duration patience_;
  const absl::Duration farewell_;
  mutable absl::Mutex mutex_;
  std::unique_ptr<Model> waiting_ ABSL_GUARDED_BY(mutex_);
  bool busy_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  Counters counters_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace doppel
