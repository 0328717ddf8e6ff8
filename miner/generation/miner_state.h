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
    bool queued = false;
  };

  // INVALID_ARGUMENT: the fact contradicts the ones before it (an operation that ends without having started,
  // two that run at once, a generation activated before it was published, …); nothing was changed.
  absl::Status Apply(const v1::MinerUpdate& update);

  // In the order in which they started.
  const std::vector<OperationRecord>& operations() const { return operations_; }
  // Those that wait for the running one, first come first.
  const std::vector<OperationRecord>& queued() const { return queued_; }
  // Queued ones too. Null if there is none.
  const OperationRecord* Find(absl::string_view id) const;
  // The one that has not ended; null if none runs.
  const OperationRecord* Running() const;
  const std::set<uint64_t>& published() const { return published_; }
  // No longer published. Their files may still lie there.
  const std::set<uint64_t>& retired() const { return retired_; }
  const std::set<uint64_t>& pinned() const { return pinned_; }
  // 0 before the first activation.
  uint64_t active() const { return activations_.empty() ? 0 : activations_.back(); }
  // The one that was active before the active one and is still published; 0 if there is none.
  uint64_t previously_active() const;
  // The last fact published a generation of the active one, and a crash came before the fact that activates
  // it: its number. Else 0.
  uint64_t half_derived() const { return half_derived_; }
  // Unset if it was never changed.
  const std::optional<v1::ReclusterPolicySpec>& policy() const { return policy_; }
  // Highest generation number that was ever promised to an operation; numbers are not used twice.
  uint64_t last_number() const { return last_number_; }
  // All of it as text, for tests and logs.
  std::string DebugString() const;

 private:
  absl::Status ApplyFact(const v1::MinerUpdate& update);
  absl::Status CheckNew(const v1::OperationStarted& started) const;
  std::vector<OperationRecord>::iterator FindQueued(absl::string_view id);
  absl::Status ApplyStarted(const v1::OperationStarted& started);
  absl::Status ApplyEnded(const v1::OperationEnded& ended);
  absl::Status ApplyQueued(const v1::OperationStarted& started);
  absl::Status ApplyPublished(const v1::GenerationPublished& published);
  absl::Status ApplyDerived(uint64_t generation, uint64_t base);
  absl::Status ApplyActivated(const v1::GenerationActivated& activated);
  absl::Status ApplyRetired(uint64_t generation);
  absl::Status ApplyPinned(const v1::GenerationPinned& pinned);

  std::vector<OperationRecord> operations_;
  std::vector<OperationRecord> queued_;
  std::set<uint64_t> published_;
  std::set<uint64_t> retired_;
  std::set<uint64_t> pinned_;
  // The active one last; what was rolled back or retired is not in it.
  std::vector<uint64_t> activations_;
  std::optional<v1::ReclusterPolicySpec> policy_;
  uint64_t last_number_ = 0;
  uint64_t half_derived_ = 0;
};

}  // namespace doppel
