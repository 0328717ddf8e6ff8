#pragma once

#include <cstdint>

#include "doppel/v1/storage.pb.h"

namespace doppel {

// The journal's facts, from what they say.

inline v1::MinerUpdate StartedFact(const v1::OperationStarted& started) {
  v1::MinerUpdate update;
  *update.mutable_operation_started() = started;
  return update;
}
inline v1::MinerUpdate QueuedFact(const v1::OperationStarted& started) {
  v1::MinerUpdate update;
  *update.mutable_operation_queued()->mutable_operation() = started;
  return update;
}
// That it succeeded; change it if it did not.
inline v1::MinerUpdate EndedFact(const v1::OperationStarted& started, double seconds) {
  v1::MinerUpdate update;
  v1::OperationEnded& ended = *update.mutable_operation_ended();
  ended.set_id(started.id());
  ended.set_state(v1::Operation::STATE_SUCCEEDED);
  ended.set_generation(started.generation());
  ended.set_elapsed_seconds(seconds);
  return update;
}
// base 0: an operation made it.
inline v1::MinerUpdate PublishedFact(uint64_t generation, uint64_t base = 0) {
  v1::MinerUpdate update;
  update.mutable_generation_published()->set_generation(generation);
  update.mutable_generation_published()->set_base(base);
  return update;
}
inline v1::MinerUpdate ActivatedFact(uint64_t generation, bool rollback = false) {
  v1::MinerUpdate update;
  update.mutable_generation_activated()->set_generation(generation);
  update.mutable_generation_activated()->set_rollback(rollback);
  return update;
}
inline v1::MinerUpdate RetiredFact(uint64_t generation) {
  v1::MinerUpdate update;
  update.mutable_generation_retired()->set_generation(generation);
  return update;
}
inline v1::MinerUpdate PinnedFact(uint64_t generation, bool pinned) {
  v1::MinerUpdate update;
  update.mutable_generation_pinned()->set_generation(generation);
  update.mutable_generation_pinned()->set_pinned(pinned);
  return update;
}
inline v1::MinerUpdate PolicyFact(const v1::ReclusterPolicySpec& policy) {
  v1::MinerUpdate update;
  *update.mutable_policy_changed()->mutable_policy() = policy;
  return update;
}

}  // namespace doppel
