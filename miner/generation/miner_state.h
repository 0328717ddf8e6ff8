#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "doppel/v1/mining.pb.h"
#include "doppel/v1/storage.pb.h"

namespace doppel {

// The miner's control state: what the journal's facts add up to. Apply is the only mutator, so replaying the
// journal gives the live state. Not thread-safe.
class MinerState {
 public:
  struct OperationRecord {
    v1::OperationStarted started;
    std::optional<v1::OperationEnded> ended;
  };

  // INVALID_ARGUMENT: the fact contradicts the ones before it (an operation that ends without having started,
  // two that run at once, a generation activated before it was published, …); nothing was changed.
  absl::Status Apply(const v1::MinerUpdate& update);

  // In the order in which they started.
  const std::vector<OperationRecord>& operations() const { return operations_; }
  // Null if there is none.
  const OperationRecord* Find(absl::string_view id) const;
  // The one that has not ended; null if none runs.
  const OperationRecord* Running() const;
  const std::set<uint64_t>& published() const { return published_; }
  // 0 before the first activation.
  uint64_t active() const { return active_; }
  // Highest generation number that was ever promised to an operation; numbers are not used twice.
  uint64_t last_number() const { return last_number_; }
  // All of it as text, for tests and logs.
  std::string DebugString() const;

 private:
  absl::Status ApplyStarted(const v1::OperationStarted& started);
  absl::Status ApplyEnded(const v1::OperationEnded& ended);
  absl::Status ApplyPublished(uint64_t generation);
  absl::Status ApplyActivated(uint64_t generation);

  std::vector<OperationRecord> operations_;
  std::set<uint64_t> published_;
  uint64_t active_ = 0;
  uint64_t last_number_ = 0;
};

}  // namespace doppel
