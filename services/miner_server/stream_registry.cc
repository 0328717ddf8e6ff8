#include "services/miner_server/stream_registry.h"

#include <algorithm>
#include <utility>

#include "services/miner_server/stream_reactor.h"

namespace doppel {

StreamRegistry::~StreamRegistry() {
  absl::MutexLock lock(&mutex_);
  streams_.clear();
}

bool StreamRegistry::Add(std::shared_ptr<StreamReactor> stream) {
  absl::MutexLock lock(&mutex_);
  if (draining_) return false;
  streams_.insert(std::move(stream));
  return true;
}

void StreamRegistry::Remove(const std::shared_ptr<StreamReactor>& stream) {
  absl::MutexLock lock(&mutex_);
  streams_.erase(stream);
}

uint32_t StreamRegistry::open() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<uint32_t>(streams_.size());
}

bool StreamRegistry::draining() const {
  absl::MutexLock lock(&mutex_);
  return draining_;
}

std::vector<std::shared_ptr<StreamReactor>> StreamRegistry::Snapshot() const {
  absl::MutexLock lock(&mutex_);
  return {streams_.begin(), streams_.end()};
}

std::vector<v1::StreamInfo> StreamRegistry::Describe() const {
  std::vector<v1::StreamInfo> infos;
  for (const auto& stream : Snapshot()) infos.push_back(stream->Info());
  std::sort(infos.begin(), infos.end(), [](const v1::StreamInfo& a, const v1::StreamInfo& b) {
    return std::tie(a.client_name(), a.peer()) < std::tie(b.client_name(), b.peer());
  });
  return infos;
}

void StreamRegistry::Drain() {
  {
    absl::MutexLock lock(&mutex_);
    draining_ = true;
  }
  for (const auto& stream : Snapshot()) stream->Drain();
}

bool StreamRegistry::WaitUntilEmpty(absl::Duration timeout) const {
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(this, &StreamRegistry::Empty), timeout);
}

}  // namespace doppel
