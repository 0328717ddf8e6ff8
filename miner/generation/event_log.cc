#include "miner/generation/event_log.h"

#include <algorithm>
#include <utility>

namespace doppel {
namespace {

constexpr size_t kEventsKept = 1024;

}  // namespace

void EventLog::Add(v1::WatchResponse event) {
  absl::MutexLock lock(&mutex_);
  event.set_sequence(++last_);
  event.set_time(absl::FormatTime("%Y-%m-%d%ET%H:%M:%E3SZ", clock_->Now(), absl::UTCTimeZone()));
  events_.push_back(std::move(event));
  if (events_.size() > kEventsKept) events_.pop_front();
}

std::vector<v1::WatchResponse> EventLog::After(uint64_t sequence) const {
  absl::MutexLock lock(&mutex_);
  const auto first = std::find_if(events_.begin(), events_.end(), [sequence](const v1::WatchResponse& event) {
    return event.sequence() > sequence;
  });
  return {first, events_.end()};
}

uint64_t EventLog::last() const {
  absl::MutexLock lock(&mutex_);
  return last_;
}

}  // namespace doppel
