#include "services/miner_server/stream_registry.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/miner_server/stream_reactor.h"

namespace doppel {

StreamRegistry::~StreamRegistry() {
  absl::MutexLock lock(&mutex_);
  streams_.clear();
}

absl::Status StreamRegistry::Add(std::shared_ptr<StreamReactor> stream, const std::string& client) {
  absl::MutexLock lock(&mutex_);
  if (draining_) return absl::UnavailableError("draining: come back in a moment");
  if (limits_.max_streams > 0 && streams_.size() >= limits_.max_streams) {
    return absl::ResourceExhaustedError(absl::StrCat("max_streams: this server has ", limits_.max_streams,
                                                     " streams open and takes no more: try again later"));
  }
  uint32_t& open = by_client_[client];
  if (limits_.max_streams_per_client > 0 && open >= limits_.max_streams_per_client) {
    return absl::ResourceExhaustedError(absl::StrCat("max_streams_per_client: ", client, " has ", open,
                                                     " streams open, and may have no more: close some"));
  }
  ++open;
  streams_.emplace(std::move(stream), client);
  return absl::OkStatus();
}

void StreamRegistry::Remove(const std::shared_ptr<StreamReactor>& stream) {
  absl::MutexLock lock(&mutex_);
  const auto found = streams_.find(stream);
  if (found == streams_.end()) return;
  const auto client = by_client_.find(found->second);
  if (--client->second == 0) by_client_.erase(client);
  streams_.erase(found);
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
  std::vector<std::shared_ptr<StreamReactor>> streams;
  streams.reserve(streams_.size());
  for (const auto& [stream, client] : streams_) streams.push_back(stream);
  return streams;
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
